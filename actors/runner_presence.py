"""Tells that the bot is away where nobody else can: in the guilds of a shard runner that does not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog

from domain.events import BotPresenceChanged

log = structlog.get_logger()

SILENT_AFTER_S = 9.0
"""A runner that is back sooner, which resumes its sessions, was never away for anybody."""


class RunnerSign(NamedTuple):
    """What is known of a runner at a look."""

    shard_ids: tuple[int, ...]
    silent_s: float
    """How long ago it answered last."""
    connected: bool
    """Whether it said then that all its shards are."""


class RunnerPresence:
    """Says offline for a runner that is silent, and online for the same guilds when its shards are back.

    A runner that answers tells by itself which of its shards are cut off. Which guilds Discord itself
    calls unavailable it knows as well: those that were offline before are left so.
    """

    def __init__(
        self,
        find_online: Callable[[tuple[int, ...]], Awaitable[list[int]]],
        report: Callable[[BotPresenceChanged], None],
        now_ms: Callable[[], int],
    ) -> None:
        self._find_online = find_online
        self._report = report
        self._now_ms = now_ms
        self._away: dict[str, list[int]] = {}
        """By runner: the guilds that were told to be offline for its sake."""

    async def look(self, signs: Mapping[str, RunnerSign]) -> None:
        """Compare with the last look, and tell what changed. Raises ``StoreUnavailable``: then look again."""
        for runner_id, sign in signs.items():
            if runner_id not in self._away and sign.silent_s >= SILENT_AFTER_S:
                guild_ids = await self._find_online(sign.shard_ids)
                self._away[runner_id] = guild_ids
                log.warning("runner_away", runner=runner_id, guilds=len(guild_ids))
                self._tell(guild_ids, online=False)
            elif runner_id in self._away and sign.connected and sign.silent_s < SILENT_AFTER_S:
                self._tell(self._away.pop(runner_id), online=True)

    def _tell(self, guild_ids: list[int], *, online: bool) -> None:
        now_ms = self._now_ms()
        for guild_id in guild_ids:
            self._report(BotPresenceChanged(guild_id, online=online, ts_ms=now_ms))
