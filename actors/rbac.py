"""The Rbac actor: says who has which role, is the one way to change roles, and tells who must ask again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from itertools import islice

import structlog
from cachetools import LRUCache

from actors.authority_facts import AuthorityFacts
from actors.fan_out import FanOut
from actors.member_roles import NOTHING, MemberRoles
from domain.authority import (
    AuthorityNotice,
    AuthorityStore,
    Judgement,
    MemberAuthority,
    asks_discord,
    change_of,
    judge,
)
from domain.errors import MayNotChangeRoles, RolesUnavailable, SessionsUnavailable
from domain.gateway_hearing import ShardHeard
from domain.permissions import Role, may
from domain.roles import (
    Assign,
    Assignment,
    Author,
    AuthorityChange,
    Mapping,
    Member,
    Revoke,
    RoleChange,
    RoleStore,
)
from tasks import SupervisedTasks

log = structlog.get_logger()

SIGN_OF_LIFE_S = 2.0
"""Listeners that hear nothing for longer stop to believe what they remember."""
LOAD_AGAIN_EVERY_TICKS = 1_800
"""About once an hour what is too old is forgotten in the store, too."""
MAX_ASKED = 200_000
"""Members of whom somebody asked: their changes are told."""
MAX_UNKEPT = 20_000
KEEP_WITHIN_S = 0.3
"""A runner waits so long with its next notices; what is not kept by then, a tick tries again."""
KEEP_AT_ONCE = 1_000
LOAD_WITHIN_S = 2.0


class Rbac:
    """Implements :class:`domain.roles.Roles` and the runners' ``AuthoritySink``.

    Roles are read from the store whenever they are asked for: what a change brings about holds from the
    next question on, here and in every other life. Killed, it loses what Discord said lately, and its
    listeners, who then ask about everybody again. What the gateway said of people who are logged in, its
    next life finds in the store.
    """

    def __init__(
        self,
        open_store: Callable[[], Awaitable[RoleStore]],
        make_members: Callable[[], MemberRoles],
        open_authority: Callable[[], AuthorityStore],
        now_ms: Callable[[], int],
    ) -> None:
        self._open_store = open_store
        self._store: RoleStore | None = None
        self._opening = asyncio.Lock()
        self._members = make_members()
        self._open_authority = open_authority
        self._authority: AuthorityStore | None = None
        self._loaded = False
        self._now_ms = now_ms
        self._facts = AuthorityFacts()
        self._asked: LRUCache[tuple[int, int], None] = LRUCache(MAX_ASKED)
        self._unkept: dict[tuple[int, int | None], AuthorityNotice] = {}
        self._fan_out: FanOut[AuthorityChange] = FanOut()
        self._ticks = 0
        self._tasks = SupervisedTasks("rbac")

    async def start(self) -> None:
        """Connect."""
        await self._opened()

    async def ping(self) -> str | None:
        """Return None when all is well, or why not. A life that Ray began connects first."""
        await self._opened()
        ailing = (*self._tasks.ailing(), *self._members.ailing())
        return f"It cannot go on with: {', '.join(ailing)}." if ailing else None

    # -- what is asked ------------------------------------------------------------------------------------

    async def roles_of(self, members: Collection[Member], *, wait: bool = True) -> dict[Member, Role | None]:
        """See the port. Discord is asked about those whose role depends on it, and nobody else."""
        self._asked.update(dict.fromkeys((member.guild_id, member.user_id) for member in members))
        judged = await self._judged(members, wait=wait)
        return {member: said.role for member, said in judged.items() if said.known}

    async def _judged(self, members: Collection[Member], *, wait: bool = True) -> dict[Member, Judgement]:
        now_ms, facts = self._now_ms(), self._facts
        records = await (await self._opened()).records(members)
        heard = {
            m: (facts.corrected(m.guild_id, r, now_ms), *facts.about(m, now_ms)) for m, r in records.items()
        }
        asked = [(m.guild_id, m.user_id) for m, known in heard.items() if asks_discord(m, *known)]
        given = await self._members.of(asked, wait=wait)
        judged = {}
        for member, known in heard.items():
            discord_roles = given.get((member.guild_id, member.user_id), NOTHING)
            if discord_roles:
                discord_roles = facts.existing(discord_roles)
            judged[member] = judge(member, *known, discord_roles)
        return judged

    async def change(self, change: RoleChange, by: Member, request_id: str | None = None) -> int:
        """See the port."""
        store = await self._opened()
        said = (await self._judged([by]))[by]
        if not said.known:
            raise RolesUnavailable("Discord does not say right now what this person may do.")
        if said.member is None or not may(said.role, "manage_roles"):
            raise MayNotChangeRoles
        user_id = change.user_id if isinstance(change, Assign | Revoke) else None
        began_ms = self._now_ms()
        try:
            return await store.change(change, Author(said.member, said.discord_roles, request_id))
        finally:  # also when it is not known whether it was made
            self._tell([AuthorityChange(by.guild_id, user_id, began_ms)])

    async def assignments(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Assignment], int]:
        """See the port."""
        return await (await self._opened()).assignments(guild_id, limit=limit, offset=offset)

    async def mappings(self, guild_id: int, *, limit: int, offset: int) -> tuple[list[Mapping], int]:
        """See the port."""
        return await (await self._opened()).mappings(guild_id, limit=limit, offset=offset)

    # -- what is heard, and told --------------------------------------------------------------------------

    async def heard(self, notices: list[AuthorityNotice], shards: Sequence[ShardHeard] = ()) -> None:
        """Take what a runner heard: tell those concerned at once, and keep it for the next life.

        About people of whom nobody asked it is remembered only if they are logged in. With these notices all
        is told that ``shards`` have heard so far.
        """
        await self._opened()
        wanted: list[AuthorityNotice] = []
        for notice in notices:
            if isinstance(notice, MemberAuthority):
                asked = (notice.guild_id, notice.user_id) in self._asked
                roles = notice.discord_roles or NOTHING
                self._members.told(notice.guild_id, notice.user_id, roles, wanted=asked)
                if not asked:
                    continue
            elif notice.missed:
                self._members.missed(notice.guild_id)
            wanted.append(notice)
        self._members.heard(shards)
        self._facts.remember(wanted, self._now_ms())
        self._tell(map(change_of, wanted))
        self._unkept |= {change_of(notice)[:2]: notice for notice in notices}
        while len(self._unkept) > MAX_UNKEPT:
            del self._unkept[next(iter(self._unkept))]
        await self._keep()

    async def changes(self, listener_id: str) -> AsyncIterator[list[AuthorityChange]]:
        """See the port. A listener that falls far behind is cut off, and asks about everybody again."""
        await self._opened()
        async with contextlib.aclosing(self._fan_out.stream(listener_id)) as lists:
            async for changes in lists:
                yield changes

    def _tell(self, changes: Iterable[AuthorityChange]) -> None:
        told = list(changes)
        for listener_id in self._fan_out.listeners() if told else ():
            self._fan_out.send(listener_id, told)

    async def _keep(self) -> bool:
        """Keep for the next life some of what is not kept yet; return whether that worked."""
        authority, unkept = self._authority, list(islice(self._unkept.values(), KEEP_AT_ONCE))
        if authority is None or not unkept:
            return False
        try:
            async with asyncio.timeout(KEEP_WITHIN_S):
                logged_in = await authority.keep(unkept)
        except (SessionsUnavailable, TimeoutError) as problem:
            log.warning("authority_not_kept", notices=len(unkept), error=repr(problem))
            self._facts.remember(unkept, self._now_ms())
            return False
        of_people = [notice for notice in unkept if isinstance(notice, MemberAuthority)]
        self._facts.remember((n for n in of_people if n.user_id in logged_in), self._now_ms())
        for notice in unkept:
            about = change_of(notice)[:2]
            if self._unkept.get(about) is notice:
                del self._unkept[about]
        return True

    async def _load(self) -> None:
        if self._authority is None:
            self._authority = self._open_authority()
        try:
            async with asyncio.timeout(LOAD_WITHIN_S):
                now_ms = self._now_ms()
                self._facts.remember(await self._authority.load(now_ms), now_ms)
            self._loaded = True
        except (SessionsUnavailable, TimeoutError) as problem:
            log.warning("authority_not_loaded", error=repr(problem))

    async def _give_signs(self) -> None:
        for listener_id in self._fan_out.listeners():
            self._fan_out.send(listener_id, [])

    async def _keep_up(self) -> None:
        self._ticks += 1
        if not self._loaded or self._ticks % LOAD_AGAIN_EVERY_TICKS == 0:
            await self._load()
        while self._unkept and await self._keep():
            pass

    async def _opened(self) -> RoleStore:
        """Return the store; opened when first needed, because a restarted actor is told nothing."""
        async with self._opening:
            if self._store is None:
                store = await self._open_store()
                await self._load()
                # Apart, because what waits for Redis must not hold up the signs of life.
                self._tasks.every("signs of life", SIGN_OF_LIFE_S, self._give_signs)
                self._tasks.every("keep", SIGN_OF_LIFE_S, self._keep_up)
                self._store = store
            return self._store
