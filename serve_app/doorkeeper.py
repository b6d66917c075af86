"""Who may stay: closes the sockets of sessions that end, and ends the watching of who loses the authority.

What the Rbac actor says has changed is asked about at once. Everybody else is looked at again every two
minutes, because some things only a list tells that is asked for anew: they must still be in the server, and
hold a role there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice, takewhile
from typing import NamedTuple, TypeVar

import structlog
from cachetools import TTLCache

from domain.errors import RolesUnavailable, SessionsUnavailable, StoreUnavailable
from domain.permissions import Permission, may
from domain.protocol import CloseCode
from domain.roles import AuthorityChange, Member, Roles
from domain.sessions import EndedSessions, Memberships, SessionLookup
from serve_app.hub import Hub
from serve_app.socket import Socket
from serve_app.subscription import Subscription
from tasks import SupervisedTasks

log = structlog.get_logger()

T = TypeVar("T")

NEEDED: Permission = "view_violations"
LOOK_AGAIN_S = 120.0
"""Lists of servers are asked for anew after five minutes, and so are a member's roles where the gateway was
not heard: with two looks more at most, what only these tell is obeyed within ten."""
SERVES_S = 600.0
"""For so long a yes serves while nobody can be asked; then whoever watches has to come back."""
AT_ONCE = 500
"""A question about more would hold up the frames of everybody while it is put together."""
PAUSE_S = 0.1
"""Between two such questions in a look at all: they are no flood for the one who answers."""
IDLE_S = 1.0
ASK_AGAIN_S = 1.0
"""Between two questions about those of whom nothing is known yet, ``AT_ONCE`` of them at a time."""
LATELY_S = 20.0
"""Longer than a question takes: the answer that let somebody in may be from before such a change."""
LOOK_AT_SESSIONS_EVERY_S = 30.0
"""An end is told of at once, but not more than once, and not when a session ends of age."""
TRY_AGAIN_S = 2.0


class DoorkeeperStats(NamedTuple):
    """What was looked at, and how late the slowest end of a watching was."""

    looks: int
    """Subscriptions that were looked at without a reason but time."""
    unknown: int
    """Answers that said nothing, because nobody could be asked."""
    revoked: int
    """Subscriptions that were ended because of something that was told."""
    slowest_ms: int
    """The longest time from such a reason to the end."""


class _Looked(NamedTuple):
    at_s: float
    yes_s: float
    """When somebody last said that this person may watch."""
    round: int


class Doorkeeper:
    """Looks again at everybody who is in, and hears who loses authority and who logs out."""

    def __init__(  # noqa: PLR0917 - the relay hands over its parts
        self,
        hub: Hub,
        roles: Roles,
        sessions: SessionLookup,
        ended: EndedSessions,
        refuse: Callable[[Socket, int], None],
        monotonic_s: Callable[[], float],
        now_ms: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._roles = roles
        self._sessions = sessions
        self._ended = ended
        self._refuse = refuse
        self._monotonic_s = monotonic_s
        self._now_ms = now_ms
        self._look_now = asyncio.Event()
        self._tasks = SupervisedTasks("doorkeeper")
        self._looked: OrderedDict[Subscription, _Looked] = OrderedDict()
        """Everybody who is in, those first who were looked at longest ago."""
        self._urgent: dict[Subscription, int] = {}
        """Those of whom something was told, and when its reason came about."""
        self._something_urgent = asyncio.Event()
        self._unanswered: OrderedDict[Subscription, int | None] = OrderedDict()
        """Those of whom nobody could say anything, in the order in which they are asked about again.
        Each with when its reason came about, if one was told. The urgent ones do not wait behind them."""
        self._something_unanswered = asyncio.Event()
        self._round = 0
        """Whoever was not looked at in this one has to be: changes may have been missed before it."""
        self._round_began_s = float("-inf")
        self._lately: TTLCache[int, int] = TTLCache(10_000, LATELY_S, monotonic_s)
        self._looks = self._unknown = self._revoked = self._slowest_ms = 0
        hub.on_follow, hub.on_leave = self._follows, self._left

    def start(self) -> None:
        """Begin to look."""
        self._tasks.keep("obey", self._obey_forever)
        self._tasks.keep("ask again", self._ask_again_forever)
        self._tasks.keep("look at all", self._look_at_all_forever)
        self._tasks.keep("look at sessions", self._look_at_sessions_forever)
        self._tasks.keep("hear of ends", self._hear_of_ends)

    async def stop(self) -> None:
        """Look no more."""
        await self._tasks.stop()

    def stats(self) -> DoorkeeperStats:
        """Return what was done since the beginning."""
        return DoorkeeperStats(self._looks, self._unknown, self._revoked, self._slowest_ms)

    # -- what is told -------------------------------------------------------------------------------------

    def changed(self, changes: Sequence[AuthorityChange]) -> None:
        """Ask about those concerned at once."""
        for guild_id, user_id, at_ms in changes:
            self._lately[guild_id] = at_ms
            for subscription in self._hub.following(guild_id, user_id):
                self._urgent.setdefault(subscription, at_ms)
        if self._urgent:
            self._something_urgent.set()

    def missed(self) -> None:
        """Look at everybody, one after the other: some changes may not have been heard."""
        self._round += 1
        self._round_began_s = self._monotonic_s()

    def _follows(self, subscription: Subscription) -> None:
        now_s = self._monotonic_s()
        self._looked[subscription] = _Looked(now_s, now_s, self._round)
        self._looked.move_to_end(subscription)
        at_ms = self._lately.get(subscription.guild_id)
        if at_ms is None and now_s - self._round_began_s < LATELY_S:
            at_ms = self._now_ms()
        if at_ms is not None:
            self._urgent.setdefault(subscription, at_ms)
            self._something_urgent.set()

    def _left(self, subscription: Subscription) -> None:
        self._looked.pop(subscription, None)
        self._urgent.pop(subscription, None)
        self._unanswered.pop(subscription, None)

    async def _obey_forever(self) -> None:
        while True:
            await self._something_urgent.wait()
            self._something_urgent.clear()
            while self._urgent:
                await self._ask_urgent()

    async def _ask_urgent(self) -> None:
        """Ask about some; in a call of its own, since the loop waits for long and is to keep none of them."""
        # Taken out first: what is told during the question is asked about anew.
        urgent = _take(self._urgent)
        await self._ask({each: each.member for each in urgent if each.wanted}, urgent)

    async def _ask_again_forever(self) -> None:
        while True:
            await self._something_unanswered.wait()
            while self._unanswered:
                self._something_unanswered.clear()
                if await self._ask_unanswered():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(ASK_AGAIN_S):
                            await self._something_unanswered.wait()
            self._something_unanswered.clear()

    async def _ask_unanswered(self) -> int:
        """Ask about some of whom Discord must be asked, likewise in a call of its own."""
        again = _take(self._unanswered)
        return await self._ask({each: each.member for each in again if each.wanted}, again, wait=True)

    # -- what is looked at without being told ---------------------------------------------------------------

    async def _look_at_all_forever(self) -> None:
        while True:
            looked = await self._look_at(self._due())  # kept by nobody while this sleeps: it may end
            await asyncio.sleep(PAUSE_S if looked == AT_ONCE else IDLE_S)

    def _due(self) -> list[Subscription]:
        before_s = self._monotonic_s() - LOOK_AGAIN_S
        due = takewhile(
            lambda item: item[1].at_s <= before_s or item[1].round < self._round, self._looked.items()
        )
        return [subscription for subscription, _ in islice(due, AT_ONCE)]

    async def _look_at(self, due: Collection[Subscription]) -> int:
        if not due:
            return 0
        self._looks += len(due)
        this_round = self._round
        lists = await self._lists_of(due)
        members: dict[Subscription, Member] = {}
        unsure: set[Subscription] = set()
        for subscription in due:
            if not subscription.wanted:
                continue
            known = lists.get(subscription.socket.user_id)
            if known is None:
                unsure.add(subscription)  # there is no list: the last one serves for a while
                members[subscription] = subscription.member
            elif (guild := known.guild(subscription.guild_id)) is None:
                self._end(subscription)
            else:
                user_id = subscription.socket.user_id
                subscription.member = members[subscription] = Member(
                    user_id, guild.guild_id, guild.owns, guild.permissions, known.as_of_ms
                )
        await self._ask(members, unsure=unsure)
        now_s = self._monotonic_s()
        for subscription in due:
            if (looked := self._looked.get(subscription)) is not None:
                self._looked[subscription] = looked._replace(at_s=now_s, round=this_round)
                self._looked.move_to_end(subscription)
        return len(due)

    async def _lists_of(self, due: Collection[Subscription]) -> dict[int, Memberships]:
        people = {each.socket.user_id: each.socket.token for each in due}
        try:
            return await self._sessions.memberships(people)
        except SessionsUnavailable:
            return {}
        except Exception:
            log.exception("memberships_not_read")
            return {}

    # -- what is asked --------------------------------------------------------------------------------------

    async def _ask(
        self,
        members: dict[Subscription, Member],
        told: Mapping[Subscription, int | None] | None = None,
        unsure: Collection[Subscription] = (),
        *,
        wait: bool = False,
    ) -> bool:
        """Ask about subscriptions as these members, and do what follows; return whether any are left.

        A yes to somebody who is unsure does not count as one; a no does. Those of whom nothing is known are
        asked about again soon. Without ``wait`` the answer comes at once, whatever Discord does: who is to be
        deaf waits for nobody of whom Discord must be asked.
        """
        told = told or {}
        try:
            roles = await self._roles.roles_of(set(members.values()), wait=wait) if members else {}
        except (StoreUnavailable, RolesUnavailable) as problem:
            # What takes a role away is away too: what was granted still holds, for a while.
            log.warning("roles_not_rechecked", error=str(problem))
            roles = {}
        except Exception:
            log.exception("recheck_broke")
            roles = {}
        now_s, left = self._monotonic_s(), False
        for subscription, member in members.items():
            looked = self._looked.get(subscription)
            if looked is None or not subscription.wanted:
                continue
            if member in roles and not may(roles[member], NEEDED):
                self._end(subscription, told.get(subscription))
                continue
            if member in roles and subscription not in unsure:
                self._looked[subscription] = looked._replace(yes_s=now_s)
                self._unanswered.pop(subscription, None)
                continue
            self._unknown += 1
            if now_s - looked.yes_s >= SERVES_S:
                self._hub.give_up(subscription)
            elif member not in roles:
                left = True
                self._ask_again(subscription, told.get(subscription), is_new=not wait)
        return left

    def _ask_again(self, subscription: Subscription, told_ms: int | None, *, is_new: bool) -> None:
        """Queue somebody of whom nothing is known; of whom something was told goes first."""
        if told_ms is None:
            told_ms = self._unanswered.get(subscription)
        is_new = is_new and subscription not in self._unanswered
        self._unanswered[subscription] = told_ms
        if is_new:
            self._unanswered.move_to_end(subscription, last=told_ms is None)
            self._something_unanswered.set()

    def _end(self, subscription: Subscription, told_ms: int | None = None) -> None:
        socket, guild_id = subscription.socket, subscription.guild_id
        self._hub.unsubscribe(socket, guild_id)
        self._refuse(socket, guild_id)
        if told_ms is not None:
            self._revoked += 1
            self._slowest_ms = max(self._slowest_ms, self._now_ms() - told_ms)

    # -- sessions -------------------------------------------------------------------------------------------

    async def _hear_of_ends(self) -> None:
        async for session_id in self._ended:
            if session_id is None:  # some may have been missed
                self._look_now.set()
                continue
            for socket in self._hub.sockets():
                if socket.session_id == session_id:
                    _show_out(socket)

    async def _look_at_sessions_forever(self) -> None:
        wait_s = 0.0
        while True:
            try:
                async with asyncio.timeout(wait_s):
                    await self._look_now.wait()
            except TimeoutError:
                pass
            self._look_now.clear()
            wait_s = LOOK_AT_SESSIONS_EVERY_S
            sockets = self._hub.sockets()
            try:
                alive = await self._sessions.alive({socket.session_id for socket in sockets})
            except SessionsUnavailable:
                wait_s = TRY_AGAIN_S
                continue
            except Exception:
                log.exception("sessions_not_rechecked")
                continue
            for socket in sockets:
                if socket.session_id not in alive:
                    _show_out(socket)


def _take(waiting: dict[Subscription, T]) -> dict[Subscription, T]:
    """Take the first out of a queue, as many as are asked about at once."""
    first = dict(islice(waiting.items(), AT_ONCE))
    for subscription in first:
        del waiting[subscription]
    return first


def _show_out(socket: Socket) -> None:
    socket.close(CloseCode.SESSION_ENDED, "You were logged out.")
