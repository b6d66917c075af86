"""How a change that was made outside of a guild's host reaches those who watch the guild."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from actors.routing import GuildDirectory
from domain.errors import HostUnreachable, NotOwner, StoreUnavailable

log = structlog.get_logger()

WITHIN_S = 4.0
"""Longer than any replica believes a host that it does not hear: when the one who changed something is
answered, nobody remembers what was before, even if the host could not be reached."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
AT_ONCE = 64


class HostAnnouncer:
    """Implements :class:`domain.ports.Announcer`: asks the guild's host, wherever that is by now.

    What a host did but could not confirm is said twice: those who watch must bear that. Of more than
    ``AT_ONCE`` announcements the others wait, within their time.
    """

    def __init__(self, directory: GuildDirectory) -> None:
        self._directory = directory
        self._room = asyncio.Semaphore(AT_ONCE)

    async def announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        """See the port."""
        try:
            async with asyncio.timeout(WITHIN_S), self._room:
                await self._announce(guild_id, kind, data)
        except TimeoutError:
            log.warning("not_announced", guild=guild_id, kind=kind)
        except Exception:
            log.exception("not_announced", guild=guild_id, kind=kind)

    async def _announce(self, guild_id: int, kind: str, data: dict[str, Any]) -> None:
        """Try until it is done."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                if not self._directory.known:
                    await self._directory.start()
                version = self._directory.routing.placement.version
                try:
                    await self._directory.host_of(guild_id)[1].announce(guild_id, [(kind, data)])
                    return  # noqa: TRY300 - an else would part it from its try
                except (NotOwner, HostUnreachable) as problem:
                    log.info("announce_again", guild=guild_id, kind=kind, error=repr(problem))
                await self._directory.refresh(version)
            except (HostUnreachable, StoreUnavailable) as problem:
                log.info("placement_not_refreshed", error=repr(problem))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
