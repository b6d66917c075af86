"""Sessions as a replica sees them: guilds as Discord says now, and reading goes on while the store is away.

- A person's guilds are asked for again after five minutes, behind the answer to a request. A list that is
  older than ten minutes is shown only when Discord says nothing: then for up to a day.
- One replica asks for a person, however many requests come in; the turn is taken in the store.
- Discord's tokens are renewed on the way. Refused, they end the session; Discord being away ends nothing.
- A replica remembers the sessions that it saw in the last ten minutes. While the store is away they are good
  for reading; what was ended here never is again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Coroutine, Mapping

import msgspec
import structlog
from cachetools import TTLCache

from domain.errors import (
    DiscordBusy,
    DiscordUnavailable,
    LoginFailed,
    SealBroken,
    SessionsUnavailable,
)
from domain.sessions import (
    SESSION_MS,
    EndedSessions,
    Identity,
    LoginProvider,
    Memberships,
    OpenSession,
    PendingLogin,
    Session,
    SessionGuild,
    SessionStore,
    Tokens,
    list_age_ms,
    session_id_of,
)

log = structlog.get_logger()

FRESH_MS = 5 * 60_000
SHOWN_MS = 10 * 60_000
WAIT_FOR_GUILDS_S = 2.0
"""How long a request waits for a list that must be newer."""

ASK_WITHIN_S = 20.0
TURN_MS = 30_000
"""Longer than the asking may take: a turn that ends by itself would be taken by two."""
REST_MS = 15_000
MAX_REST_MS = 5 * 60_000
RENEW_BEFORE_MS = 5 * 60_000
REVOKE_WITHIN_S = 5.0
CLOSE_WITHIN_S = 2.0

REMEMBERED_S = 600.0
MAX_REMEMBERED = 2_000
MAX_ASKING = 100
"""Lists that may be asked for at once on behalf of those who only watch."""
NO_LIST = Memberships((), 0)
MAX_ENDED = 20_000


class Sessions:
    """What the routes and the relay ask about sessions."""

    def __init__(
        self,
        store: SessionStore,
        discord: LoginProvider,
        now_ms: Callable[[], int],
        *,
        wait_s: float = WAIT_FOR_GUILDS_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._discord = discord
        self._now_ms = now_ms
        self._wait_s = wait_s
        self._remembered: TTLCache[str, Session] = TTLCache(MAX_REMEMBERED, REMEMBERED_S, monotonic_s)
        self._ended: TTLCache[str, None] = TTLCache(MAX_ENDED, SESSION_MS / 1000, monotonic_s)
        self._resting: TTLCache[int, None] = TTLCache(MAX_REMEMBERED, REST_MS / 1000, monotonic_s)
        """People for whom nothing is asked for a while."""
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, identity: Identity, *, instead_of: str | None = None) -> str:
        """Begin a session, and end the one that the browser had; return the token for its cookie."""
        csrf_token = secrets.token_urlsafe(32)
        session = Session(identity.user, identity.guilds, csrf_token, self._now_ms())
        token = await self._store.create(session, identity.tokens)
        if instead_of:
            await self.end(instead_of)
        return token

    async def get(self, token: str) -> Session | None:
        """Return the session of a token, or None when it ended or never was.

        Raises:
            SessionsUnavailable: the store is away, and this replica has not seen the session lately.

        """
        session_id = session_id_of(token)
        if session_id in self._ended:
            return None
        try:
            session = await self._store.get(token)
            if session is not None:
                session = await self._with_guilds(token, session)
        except SessionsUnavailable:
            if (remembered := self._remembered.get(session_id)) is None:
                raise
            return msgspec.structs.replace(remembered, confirmed=False)
        if session is None or session_id in self._ended:
            self._remembered.pop(session_id, None)
            return None
        self._remembered[session_id] = session
        return session

    async def alive(self, session_ids: Collection[str]) -> set[str]:
        """Return those of the sessions that have not ended, and keep none alive by asking.

        Raises:
            SessionsUnavailable: the store is away; what this replica remembers is no answer here.

        """
        alive = await self._store.alive(session_ids)
        return {session_id for session_id in alive if session_id not in self._ended}

    async def memberships(self, people: Mapping[int, str]) -> dict[int, Memberships]:
        """Return where these people are members, and have lists that are no longer fresh asked for anew.

        As many as there is room for: the others when one looks again.

        Raises:
            SessionsUnavailable: the store is away.

        """
        lists = await self._store.guild_lists(people)
        for user_id, token in people.items():
            known = lists.get(user_id, NO_LIST)
            is_old = list_age_ms(known.as_of_ms, self._now_ms()) >= FRESH_MS
            if is_old and len(self._asking) < MAX_ASKING:
                self._ask(token, user_id, known.as_of_ms)
        return lists

    async def end(self, token: str) -> None:
        """End a session everywhere; Discord is told when it was the person's last."""
        tokens = await self._store.end(token)
        self._forget(session_id_of(token))
        self._revoke_soon(tokens)

    async def end_one(self, user_id: int, session_id: str) -> bool:
        """End one of a person's sessions; return False when it is none of theirs (any more)."""
        found, tokens = await self._store.end_one(user_id, session_id)
        if found:
            self._forget(session_id)
            self._revoke_soon(tokens)
        return found

    async def sessions_of(self, user_id: int) -> list[OpenSession]:
        """Return a person's sessions, the newest login first."""
        return await self._store.sessions_of(user_id)

    async def end_everywhere(self, user_id: int) -> None:
        """End all of a person's sessions."""
        tokens = await self._store.end_all(user_id)
        for session_id, session in list(self._remembered.items()):
            if session.user.user_id == user_id:
                self._forget(session_id)
        self._revoke_soon(tokens)

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """Keep a login that is under way, for ten minutes."""
        await self._store.remember_login(state, pending)

    async def take_login(self, state: str) -> PendingLogin | None:
        """Return a login that is under way and forget it: a state works once."""
        return await self._store.take_login(state)

    async def ping(self) -> None:
        """Return when the store answers."""
        await self._store.ping()

    async def settle(self) -> None:
        """Wait until nothing is under way with Discord any more."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def hear_of_ends(self, ended: EndedSessions) -> None:
        """Let in nobody again who logged out at another replica, also if the store is away by then."""
        async for session_id in ended:
            if session_id is None:  # some ends may have been missed, but the store can be asked again
                self._remembered.clear()
            else:
                self._forget(session_id)

    async def close(self) -> None:
        """Wait for what is under way, but not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self.settle()
        for task in self._tasks:
            task.cancel()

    def _forget(self, session_id: str) -> None:
        self._ended[session_id] = None
        self._remembered.pop(session_id, None)

    # -- guilds

    async def _with_guilds(self, token: str, session: Session) -> Session | None:
        """Return the session with guilds as new as they have to be, or None if Discord ended it."""
        age_ms = list_age_ms(session.guilds_as_of_ms, self._now_ms())
        if age_ms < FRESH_MS:
            return session
        asking = self._ask(token, session.user.user_id, session.guilds_as_of_ms)
        if age_ms < SHOWN_MS or asking is None:
            return session
        await asyncio.wait({asking}, timeout=self._wait_s)
        return await self._store.get(token)

    def _ask(self, token: str, user_id: int, as_of_ms: int) -> asyncio.Task[None] | None:
        """Return the asking for a person's guilds that is under way, or None while it rests."""
        if user_id not in self._asking:
            if user_id in self._resting:
                return None
            self._asking[user_id] = asking = self._start(self._refresh(token, user_id, as_of_ms))
            asking.add_done_callback(lambda _: self._asking.pop(user_id, None))
        return self._asking[user_id]

    async def _refresh(self, token: str, user_id: int, as_of_ms: int) -> None:
        turn = f"guilds:{user_id}"
        if not await self._store.take_turn(turn, TURN_MS):
            await self._until_another(token, user_id, as_of_ms)
            return
        rest_ms = 0
        try:
            if await self._is_another(token, as_of_ms):
                return  # another replica was done with it just before
            asked_ms = self._now_ms()  # not when it came: meanwhile the gateway may say something newer
            async with asyncio.timeout(ASK_WITHIN_S):
                guilds = await self._guilds_of(token)
            if guilds is None:
                self._resting[user_id] = None
            else:
                await self._store.keep_guilds(user_id, guilds, asked_ms)
        except (LoginFailed, SealBroken) as refusal:
            log.info("session_refused", user_id=user_id, reason=str(refusal))
            await self.end(token)
        except (DiscordUnavailable, TimeoutError) as problem:
            rest_ms = _rest_after(problem)
            self._resting[user_id] = None
            log.info("guilds_not_refreshed", user_id=user_id, reason=str(problem), rest_ms=rest_ms)
        finally:
            await self._store.end_turn(turn, rest_ms)

    async def _until_another(self, token: str, user_id: int, as_of_ms: int) -> None:
        """Wait for what another replica is being told, as long as a request waits."""
        deadline = asyncio.get_running_loop().time() + self._wait_s
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(self._wait_s / 20)
            if await self._is_another(token, as_of_ms):
                return
        self._resting[user_id] = None

    async def _is_another(self, token: str, as_of_ms: int) -> bool:
        """Return whether there is nothing to ask any more: the list is another one, or the session over."""
        now = await self._store.get(token, touch=False)
        return now is None or now.guilds_as_of_ms != as_of_ms

    async def _guilds_of(self, token: str) -> tuple[SessionGuild, ...] | None:
        """Return what Discord says; None when there is nothing to ask it with."""
        tokens = await self._store.tokens(token)
        if tokens is None:
            return None
        if tokens.expires_at_ms - RENEW_BEFORE_MS <= self._now_ms():
            tokens = await self._renew(token, tokens)
        try:
            return await self._discord.guilds(tokens.access_token)
        except LoginFailed:
            tokens = await self._renew(token, tokens)
            return await self._discord.guilds(tokens.access_token)

    # -- tokens

    async def _renew(self, token: str, tokens: Tokens) -> Tokens:
        try:
            new = await self._discord.renew(tokens.refresh_token)
        except LoginFailed:
            kept = await self._store.tokens(token)
            if kept is None or kept == tokens:
                raise
            return kept  # another replica had renewed them
        if not await self._store.keep_tokens(token, new):
            # Somebody logged out in between, and nobody knows of the new pair but we.
            self._revoke_soon(new)
            raise LoginFailed("The session ended while its tokens were renewed.")
        return new

    def _revoke_soon(self, tokens: Tokens | None) -> None:
        if tokens is not None:
            self._start(self._revoke(tokens))

    async def _revoke(self, tokens: Tokens) -> None:
        try:
            async with asyncio.timeout(REVOKE_WITHIN_S):
                await self._discord.revoke(tokens)
        except (DiscordUnavailable, TimeoutError) as problem:
            log.info("tokens_not_revoked", reason=str(problem))

    # -- pieces

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Let something happen behind the answer; what breaks there is told to the log."""
        task = asyncio.create_task(self._watched(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watched(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except SessionsUnavailable:
            log.info("sessions_away")
        except Exception:
            log.exception("session_upkeep_broke")


def _rest_after(problem: Exception) -> int:
    wanted_ms = int(problem.retry_after_s * 1000) if isinstance(problem, DiscordBusy) else 0
    return max(REST_MS, min(wanted_ms, MAX_REST_MS))
