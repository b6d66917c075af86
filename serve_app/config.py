"""A server's configuration."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from domain.guild_settings import GuildConfig, StoredConfig
from domain.json_numbers import MOST_WHOLE, WHOLE
from domain.people import People
from domain.views import UserView
from serve_app.access import Granted, Needs, Ports
from serve_app.answers import remembered
from serve_app.changes import Changes
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers/{guild_id}/config", tags=["config"], route_class=PlainRoute)


class ServerConfig(BaseModel):
    """The configuration as it stands. Version 0 is the default that nobody has changed yet."""

    config: GuildConfig
    version: int
    updated_by: UserView | None
    updated_at: int | None


class ConfigChange(BaseModel):
    """A whole configuration, made from what was there at ``version``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    config: GuildConfig
    version: Annotated[int, Field(ge=0, le=MOST_WHOLE), WHOLE]


@router.get("", response_model=ServerConfig)
async def read_config(granted: Annotated[Granted, Depends(Needs("view_config"))], ports: Ports) -> Response:
    """Show a server's configuration."""

    async def load() -> ServerConfig:
        return await _shown(await ports.guild_settings.config(granted.guild_id), ports.people)

    return await remembered(ports, "config", granted.guild_id, "config", load)


@router.put("")
async def change_config(
    granted: Annotated[Granted, Depends(Needs("update_config"))],
    ports: Ports,
    change: Changes,
    wanted: ConfigChange,
) -> ServerConfig:
    """Replace a server's configuration; 409 when somebody else changed it meanwhile."""
    written = await ports.guild_settings.write_config(
        granted.guild_id, wanted.config, from_version=wanted.version, change=change
    )
    told = {"what": "config", "version": written.version}
    await ports.announcer.announce(granted.guild_id, "config_update", told)
    return await _shown(written, ports.people)


async def _shown(stored: StoredConfig, people: People) -> ServerConfig:
    by = stored.updated_by
    return ServerConfig(
        config=stored.config,
        version=stored.version,
        updated_by=None if by is None else (await people.resolve([by]))[by],
        updated_at=stored.updated_at_ms,
    )
