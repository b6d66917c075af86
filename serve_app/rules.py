"""A server's rules: what its messages are held against."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from domain.guild_settings import RULE_NAME, NoSuchRule, Rule, StoredRule, default_rules
from domain.json_numbers import MOST_WHOLE, WHOLE
from domain.people import People
from domain.views import UserView
from serve_app.access import Granted, Needs, Ports
from serve_app.changes import Changes
from serve_app.errors import ApiError
from serve_app.paging import DIGITS, Page, PageWanted, page_of
from serve_app.plain_route import PlainRoute

router = APIRouter(prefix="/api/servers/{guild_id}/rules", tags=["rules"], route_class=PlainRoute)

Version = Annotated[int, Field(ge=0, le=MOST_WHOLE), WHOLE]
RuleName = Annotated[str, Path(pattern=RULE_NAME, description="Small letters, digits and hyphens, up to 40")]


class ServerRule(BaseModel):
    """One rule. ``is_default`` says that the server has not replaced it; its version is 0 then."""

    name: str
    rule: Rule
    version: int
    is_default: bool
    updated_by: UserView | None
    updated_at: int | None


class RuleChange(BaseModel):
    """A whole rule, made from what was there at ``version``; 0 for a new one and in place of a default."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rule: Rule
    version: Version


@router.get("")
async def list_rules(
    granted: Annotated[Granted, Depends(Needs("view_rules"))], ports: Ports, wanted: PageWanted
) -> Page[ServerRule]:
    """List a server's rules by name, the defaults among them."""

    async def load() -> list[ServerRule]:
        return await _shown(await ports.guild_settings.rules(granted.guild_id), ports.people)

    rules = await ports.caches.get("config", granted.guild_id, "rules", load)
    page = rules[wanted.offset : wanted.offset + wanted.per_page]
    return page_of(page, len(rules), wanted, when_empty="No rules: nothing is held against this server.")


@router.get("/{rule}")
async def read_rule(
    granted: Annotated[Granted, Depends(Needs("view_rules"))], ports: Ports, rule: RuleName
) -> ServerRule:
    """Show one rule."""
    stored = [one for one in await ports.guild_settings.rules(granted.guild_id) if one.name == rule]
    if not stored:
        raise NoSuchRule
    return (await _shown(stored, ports.people))[0]


@router.put("/{rule}")
async def change_rule(
    granted: Annotated[Granted, Depends(Needs("update_rules"))],
    ports: Ports,
    change: Changes,
    rule: RuleName,
    wanted: RuleChange,
) -> ServerRule:
    """Make a rule, or replace it; 409 when somebody else changed it meanwhile."""
    kind = default_rules().get(rule)
    if kind is not None and kind.kind != wanted.rule.kind:
        raise ApiError(
            422, "wrong_kind", f"{rule} is the name of a default rule of another kind.", {"kind": kind.kind}
        )
    written = await ports.guild_settings.write_rule(
        granted.guild_id, rule, wanted.rule, from_version=wanted.version, change=change
    )
    told = {"what": "rules", "rule": rule, "version": written.version}
    await ports.announcer.announce(granted.guild_id, "config_update", told)
    return (await _shown([written], ports.people))[0]


@router.delete("/{rule}", status_code=204)
async def delete_rule(
    granted: Annotated[Granted, Depends(Needs("delete_rules"))],
    ports: Ports,
    change: Changes,
    rule: RuleName,
    version: Annotated[int | None, Query(ge=1, le=MOST_WHOLE), DIGITS] = None,
) -> Response:
    """Take a server's own rule away. In place of a default, the default holds again."""
    await ports.guild_settings.delete_rule(granted.guild_id, rule, from_version=version, change=change)
    told = {"what": "rules", "rule": rule, "version": 0}
    await ports.announcer.announce(granted.guild_id, "config_update", told)
    return Response(status_code=204)


async def _shown(stored: list[StoredRule], people: People) -> list[ServerRule]:
    names = await people.resolve({one.updated_by for one in stored if one.updated_by is not None})
    return [
        ServerRule(
            name=one.name,
            rule=one.rule,
            version=one.version,
            is_default=one.version == 0,
            updated_by=names.get(one.updated_by) if one.updated_by is not None else None,
            updated_at=one.updated_at_ms,
        )
        for one in stored
    ]
