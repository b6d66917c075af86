"""What roles Discord gave somebody: asked once however many want to know; good while the gateway is heard.

There are three outcomes: roles, no roles, and unknown. Unknown is neither of the others: whoever asks is told
to come back. Questions wait for as long as Discord wants to be left alone, and are asked then.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec
import structlog
from cachetools import LRUCache

from domain.errors import DiscordBusy, DiscordUnavailable
from domain.gateway_hearing import GatewayHearing, ShardHeard
from domain.member_questions import MemberQuestions, Question
from domain.roles import MemberSource
from tasks import SupervisedTasks

log = structlog.get_logger()

GuildAndUser = tuple[int, int]
NOTHING: frozenset[int] = frozenset()
LOOK_S = 5.0
"""The queue is looked at so often at least while something waits in it."""


class MemberRolesSettings(msgspec.Struct, frozen=True):
    """How long what Discord said is taken for true, and how it is asked."""

    remember_s: float = 1_800.0
    """So long an answer serves when its guild's gateway is not heard and Discord cannot be asked."""
    refresh_s: float = 300.0
    """After so long without the gateway an answer is asked for anew, while it still counts."""
    check_s: float = 3_600.0
    """While the gateway is heard, answers are checked so often, when nothing more urgent is to be asked."""
    remembered: int = 100_000
    at_once: int = 10
    """Requests that may be under way, one a guild."""
    per_s: float = 25.0
    """Requests begun in a second. Discord allows a bot 50 for everything that it does."""
    waiting: int = 50_000
    """Members who may wait to be asked about. Of whoever comes then nothing is known till they come again."""
    answer_within_s: float = 1.0
    """Nobody waits longer. The answer is remembered when it comes."""


class _Answer(NamedTuple):
    discord_roles: frozenset[int]
    asked_s: float


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
        self._known: LRUCache[GuildAndUser, _Answer] = LRUCache(settings.remembered)
        self._hearing = GatewayHearing()
        self._questions = MemberQuestions(settings.waiting)
        self._waited_for: WeakValueDictionary[GuildAndUser, asyncio.Future[None]] = WeakValueDictionary()
        """Held by those who wait; done when there is an answer, or Discord could not be asked."""
        self._asking = 0
        self._look = asyncio.Event()
        self._tasks = SupervisedTasks("member roles")
        self._asks = False

    async def of(
        self, members: Collection[GuildAndUser], *, wait: bool = True
    ) -> dict[GuildAndUser, frozenset[int] | None]:
        """Return the roles that Discord gave these members; None where it does not say. Never raises.

        Without ``wait`` the answer comes at once; who was not known is being asked about from then on.
        """
        now_s = self._monotonic_s()
        unknown = [member for member in members if not self._knows(member, now_s)]
        soon = [member for member in unknown if wait and self._is_answered_soon(member, now_s)]
        if futures := {self._future(member) for member in soon}:
            await asyncio.wait(futures, timeout=self._settings.answer_within_s)
            now_s = self._monotonic_s()
        return {member: self._answer(member, now_s) for member in members}

    def told(
        self, guild_id: int, user_id: int, discord_roles: frozenset[int], *, wanted: bool = False
    ) -> None:
        """Take what the gateway said of a member, if anybody wants to know; it is newer than any answer."""
        member = guild_id, user_id
        if wanted or member in self._known or self._questions.has(*member):
            self._known[member] = _Answer(discord_roles, self._monotonic_s())
            self._settle(member)

    def heard(self, shards: Sequence[ShardHeard]) -> None:
        """Take which shards have told everything that they heard."""
        self._hearing.heard(shards, self._monotonic_s())

    def missed(self, guild_id: int) -> None:
        """Note that changes of a guild's members may not have been heard until now."""
        self._hearing.missed(guild_id, self._monotonic_s())

    def ailing(self) -> tuple[str, ...]:
        """Return the names of the loops that cannot go on."""
        return self._tasks.ailing()

    # -- what is known ------------------------------------------------------------------------------------

    def _knows(self, member: GuildAndUser, now_s: float) -> bool:
        """Return whether there is an answer that counts; queue the question where one is due."""
        answer, settings = self._known.get(member), self._settings
        unknown, due = True, True
        if answer is not None:
            age_s = now_s - self._hearing.good_s(member[0], answer.asked_s, now_s)
            unknown = age_s >= settings.remember_s
            due = age_s >= settings.refresh_s or now_s - answer.asked_s >= settings.check_s
        if due and self._questions.want(*member, now_s, unknown=unknown):
            self._ask_soon()
        return not unknown

    def _answer(self, member: GuildAndUser, now_s: float) -> frozenset[int] | None:
        answer = self._known.get(member)
        if answer is None:
            return None
        good_s = self._hearing.good_s(member[0], answer.asked_s, now_s)
        return answer.discord_roles if now_s - good_s < self._settings.remember_s else None

    def _take(self, member: GuildAndUser, answer: _Answer) -> None:
        """Remember an answer, unless the gateway said something newer while it was under way."""
        known = self._known.get(member)
        if known is None or known.asked_s < answer.asked_s:
            self._known[member] = answer
        self._settle(member)

    # -- who waits ----------------------------------------------------------------------------------------

    def _is_answered_soon(self, member: GuildAndUser, now_s: float) -> bool:
        """Return whether it is worth waiting: not while Discord wants to be left alone for longer."""
        rests_s = self._questions.rests_s(member[0], now_s)
        return self._questions.has(*member) and rests_s < self._settings.answer_within_s

    def _future(self, member: GuildAndUser) -> asyncio.Future[None]:
        future = self._waited_for.get(member)
        if future is None:
            future = self._waited_for[member] = asyncio.get_running_loop().create_future()
        return future

    def _settle(self, member: GuildAndUser) -> None:
        self._questions.settle(*member)
        self._release(member)

    def _release(self, member: GuildAndUser) -> None:
        future = self._waited_for.pop(member, None)
        if future is not None and not future.done():
            future.set_result(None)

    # -- asking -------------------------------------------------------------------------------------------

    def _ask_soon(self) -> None:
        self._look.set()
        if not self._asks:
            self._asks = True
            self._tasks.keep("ask", self._ask_all, may_end=True)

    async def _ask_all(self) -> None:
        """Ask until nothing waits."""
        while len(self._questions) or self._asking:
            self._look.clear()
            now_s = self._monotonic_s()
            question = self._questions.take(now_s) if self._asking < self._settings.at_once else None
            if question is not None:
                self._asking += 1
                self._tasks.spawn("question", self._ask(question))
                await asyncio.sleep(1 / self._settings.per_s)
                continue
            wait_s = self._questions.wait_s(now_s) if self._asking < self._settings.at_once else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if wait_s is None else min(wait_s, LOOK_S)):
                    await self._look.wait()
        self._asks = False

    async def _ask(self, question: Question) -> None:
        asked_s = self._monotonic_s()
        try:
            if question.kind == "list":
                await self._ask_for_list(question, asked_s)
            else:
                [user_id] = question.user_ids
                roles = await self._source.discord_roles(question.guild_id, user_id)
                self._take((question.guild_id, user_id), _Answer(roles, asked_s))
                self._questions.done(question, 1)
        except DiscordBusy as error:
            now_s = self._monotonic_s()
            self._questions.busy(question, error.retry_after_s, now_s, everywhere=error.everywhere)
        except DiscordUnavailable as error:
            log.info("members_not_described", guild=question.guild_id, kind=question.kind, error=str(error))
            self._failed(question)
        except Exception:
            log.exception("member_question_broke")
            self._failed(question)
        finally:
            self._asking -= 1
            self._look.set()

    async def _ask_for_list(self, question: Question, asked_s: float) -> None:
        guild_id, user_ids = question.guild_id, question.user_ids
        page = await self._source.list_members(guild_id, user_ids[0] - 1)
        found = [user_id for user_id in user_ids if user_id in page.roles]
        for user_id in found:
            self._take((guild_id, user_id), _Answer(page.roles[user_id], asked_s))
        self._questions.looked_through(question, page.until)
        self._questions.done(question, len(found))

    def _failed(self, question: Question) -> None:
        """Leave the question in the queue, and let nobody wait for it any longer."""
        self._questions.failed(question, self._monotonic_s())
        for user_id in question.user_ids:
            self._release((question.guild_id, user_id))
