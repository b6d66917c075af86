"""What roles Discord gave somebody: asked once however many want to know, and remembered for ten minutes.

There are three outcomes: roles, no roles, and unknown. Unknown is neither of the others: whoever asks is told
to come back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
import structlog
from cachetools import TTLCache

from domain.errors import DiscordBusy, DiscordUnavailable
from domain.roles import MemberSource

log = structlog.get_logger()

GuildAndUser = tuple[int, int]
NOTHING: frozenset[int] = frozenset()


class MemberRolesSettings(msgspec.Struct, frozen=True):
    """How long what Discord said is taken for true, and how it is asked."""

    remember_s: float = 600.0
    """The last answer serves for so long while Discord cannot be asked; then it is unknown."""
    refresh_s: float = 300.0
    """What is older is asked anew while it still counts, so that nobody who stays has to wait."""
    failed_for_s: float = 5.0
    """Somebody about whom Discord could not be asked is not asked about again for so long."""
    remembered: int = 100_000
    at_once: int = 10
    """Questions that may be under way."""
    waiting: int = 1_000
    """Questions that may wait for their turn; about whoever comes then nothing is known."""
    answer_within_s: float = 1.0
    """Nobody waits longer. The answer is remembered when it comes."""


class _Answer(NamedTuple):
    discord_roles: frozenset[int]
    at_s: float


class MemberRoles:
    """Asks Discord, and says of whom it knows nothing."""

    def __init__(
        self,
        settings: MemberRolesSettings,
        source: MemberSource,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._source = source
        self._monotonic_s = monotonic_s
        self._known: TTLCache[GuildAndUser, _Answer] = TTLCache(
            settings.remembered, settings.remember_s, monotonic_s
        )
        self._failed: TTLCache[GuildAndUser, bool] = TTLCache(
            settings.remembered, settings.failed_for_s, monotonic_s
        )
        self._under_way: dict[GuildAndUser, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(settings.at_once)
        self._quiet_until_s = float("-inf")
        """Until when Discord wants to hear nothing."""

    async def of(
        self, members: Collection[GuildAndUser], *, wait: bool = True
    ) -> dict[GuildAndUser, frozenset[int] | None]:
        """Return the roles that Discord gave these members; None where it does not say. Never raises.

        Without ``wait`` the answer comes at once; who was not known is being asked about from then on.
        """
        questions = {member: self._question_about(member) for member in members}
        unknown = {task for member, task in questions.items() if task and member not in self._known}
        if unknown and wait:
            await asyncio.wait(unknown, timeout=self._settings.answer_within_s)
        answers = {member: self._known.get(member) for member in members}
        return {member: answer.discord_roles if answer else None for member, answer in answers.items()}

    def told(self, guild_id: int, user_id: int, discord_roles: frozenset[int]) -> None:
        """Take what the gateway said of a member, if anybody wants to know; it is newer than any answer."""
        member = guild_id, user_id
        if member in self._known or member in self._under_way:
            self._known[member] = _Answer(discord_roles, self._monotonic_s())

    def _question_about(self, member: GuildAndUser) -> asyncio.Task[None] | None:
        """Return the one question about a member that is under way, begun now if it has to be and can be."""
        answer = self._known.get(member)
        if answer is not None and self._monotonic_s() - answer.at_s < self._settings.refresh_s:
            return None
        task = self._under_way.get(member)
        room = len(self._under_way) < self._settings.waiting
        if task is None and member not in self._failed and room:
            task = self._under_way[member] = asyncio.create_task(self._ask(member))
        return task

    async def _ask(self, member: GuildAndUser) -> None:
        try:
            async with self._turn:
                if self._monotonic_s() < self._quiet_until_s:
                    self._failed[member] = True
                    return
                before = self._known.get(member)
                roles = await self._source.discord_roles(*member)
            if self._known.get(member) in (before, None):  # or the gateway said something newer meanwhile
                self._known[member] = _Answer(roles, self._monotonic_s())
        except DiscordBusy as error:
            self._quiet_until_s = self._monotonic_s() + error.retry_after_s
            self._failed[member] = True
        except DiscordUnavailable as error:
            self._failed[member] = True
            log.info("member_not_described", guild=member[0], user=member[1], error=str(error))
        except Exception:
            self._failed[member] = True
            log.exception("member_question_broke")
        finally:
            del self._under_way[member]
