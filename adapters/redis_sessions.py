"""Sessions in Redis, logins under way, and the guilds of people who are logged in.

| key | what | until |
|---|---|---|
| ``guildhall:session:<id>`` | who it is; Discord's tokens, sealed | nobody used it for a day |
| ``guildhall:sessions-of:<user>`` | ids of a person's sessions, by their latest end | the last ends |
| ``guildhall:guilds-of:<user>`` | a person's guilds, and when Discord gave them | a day later |
| ``guildhall:turn:<task>`` | whose turn it is | the turn or the rest after it ends |
| ``guildhall:login:<hash>`` | a login under way | ten minutes later |

An id is the hash of the token in the cookie: who can read Redis can still open no session.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import msgspec
from cachetools import LRUCache

from adapters.clock import now_ms as wall_clock_ms
from adapters.redis_connection import Fuse, connect
from adapters.redis_together import TogetherRedis
from adapters.sealing import Sealer
from domain.errors import SealBroken, SessionsUnavailable
from domain.events import UserRef
from domain.sessions import (
    ENDED_CHANNEL,
    GUILDS_KEPT_MS,
    IDLE_MS,
    LOGIN_MS,
    MAX_SESSIONS,
    SESSION_MS,
    Memberships,
    OpenSession,
    PendingLogin,
    Session,
    SessionGuild,
    Tokens,
    session_id_of,
)

MAX_SEEN = 1_000
ASKED_AT_ONCE = 500
"""One question after the other, so that Redis and this process do something else in between."""

_encode = msgspec.json.encode
T = TypeVar("T")


class _Kept(msgspec.Struct, frozen=True):
    user: UserRef
    csrf_token: str
    created_at_ms: int
    sealed_tokens: str | None


class _GuildList(msgspec.Struct, frozen=True):
    guilds: tuple[SessionGuild, ...]
    as_of_ms: int


class _Seen(NamedTuple):
    """What Redis last said of a session, so that the same again need not be read again."""

    kept_raw: bytes | str | None
    guilds_raw: bytes | str | None
    session: Session


class RedisSessions:
    """Implements :class:`domain.sessions.SessionStore`."""

    def __init__(
        self,
        redis: str | TogetherRedis,
        sealer: Sealer,
        now_ms: Callable[[], int] = wall_clock_ms,
        *,
        most: int = MAX_SESSIONS,
    ) -> None:
        self._redis = connect(redis)
        self._sealer = sealer
        self._now_ms = now_ms
        self._most = most
        self._unavailable_when_away = Fuse(SessionsUnavailable, self._redis.breaker)
        self._seen: LRUCache[str, _Seen] = LRUCache(MAX_SEEN)

    async def close(self) -> None:
        """Let the connections go."""
        await self._redis.aclose()

    async def create(self, session: Session, tokens: Tokens | None = None) -> str:
        """See the port."""
        token, user_id = secrets.token_urlsafe(32), session.user.user_id
        session_id = session_id_of(token)
        kept = _Kept(session.user, session.csrf_token, session.created_at_ms, self._seal(tokens))
        with self._unavailable_when_away():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(_session_key(session_id), _encode(kept), px=IDLE_MS)
                pipe.zremrangebyscore(_index_key(user_id), "-inf", self._now_ms())
                pipe.zadd(_index_key(user_id), {session_id: session.created_at_ms + SESSION_MS})
                pipe.pexpire(_index_key(user_id), SESSION_MS)
                guilds = _GuildList(session.guilds, session.created_at_ms)
                pipe.set(_guilds_key(user_id), _encode(guilds), px=GUILDS_KEPT_MS)
                pipe.zcard(_index_key(user_id))
                found = await pipe.execute()
            if found[-1] > self._most:
                await self._end_oldest(user_id, spared=session_id)
        return token

    async def get(self, token: str, *, touch: bool = True) -> Session | None:
        """See the port."""
        session_id = session_id_of(token)
        key = _session_key(session_id)
        look: tuple[Any, ...] = ("GETEX", key, "PX", IDLE_MS) if touch else ("GET", key)
        seen = self._seen.get(session_id)
        with self._unavailable_when_away():
            if seen is None:
                [kept_raw] = await self._redis.together(look)
                guilds_raw = None
            else:  # whose it is never changes: both at once
                kept_raw, guilds_raw = await self._redis.together(
                    look,
                    ("GET", _guilds_key(seen.session.user.user_id)),
                )
                if (kept_raw, guilds_raw) == (seen.kept_raw, seen.guilds_raw) and not self._is_over(
                    seen.session
                ):
                    return seen.session
            kept = _read(kept_raw, _Kept)
            if kept is None:
                self._seen.pop(session_id, None)
                return None
            if seen is None:
                guilds_raw = await self._redis.get(_guilds_key(kept.user.user_id))
            known = _read(guilds_raw, _GuildList) or _GuildList((), 0)
            session = Session(
                user=kept.user,
                guilds=known.guilds,
                csrf_token=kept.csrf_token,
                created_at_ms=kept.created_at_ms,
                session_id=session_id,
                guilds_as_of_ms=known.as_of_ms,
            )
            if self._is_over(session):
                self._seen.pop(session_id, None)
                await self._redis.delete(_session_key(session_id))
                return None
        self._seen[session_id] = _Seen(kept_raw, guilds_raw, session)
        return session

    def _is_over(self, session: Session | _Kept) -> bool:
        return session.created_at_ms + SESSION_MS <= self._now_ms()

    async def alive(self, session_ids: Collection[str]) -> set[str]:
        """See the port."""
        alive: set[str] = set()
        left = iter(session_ids)
        while asked := list(islice(left, ASKED_AT_ONCE)):
            with self._unavailable_when_away():
                found = await self._redis.mget([_session_key(session_id) for session_id in asked])
            for session_id, kept_raw in zip(asked, found, strict=True):
                kept = _read(kept_raw, _Kept)  # read, because it may be over though Redis still has it
                if kept is not None and not self._is_over(kept):
                    alive.add(session_id)
        return alive

    async def guild_lists(self, user_ids: Collection[int]) -> dict[int, Memberships]:
        """See the port."""
        lists: dict[int, Memberships] = {}
        left = iter(user_ids)
        while asked := list(islice(left, ASKED_AT_ONCE)):
            with self._unavailable_when_away():
                found = await self._redis.mget([_guilds_key(user_id) for user_id in asked])
            for user_id, raw in zip(asked, found, strict=True):
                if (known := _read(raw, _GuildList)) is not None:
                    lists[user_id] = Memberships(known.guilds, known.as_of_ms)
        return lists

    async def end(self, token: str) -> Tokens | None:
        """See the port."""
        with self._unavailable_when_away():
            [kept] = await self._end([session_id_of(token)])
            if kept is None or await self._is_logged_in(kept.user.user_id):
                return None
            await self._redis.delete(_guilds_key(kept.user.user_id))
        return self._open_if_possible(kept)

    async def end_one(self, user_id: int, session_id: str) -> tuple[bool, Tokens | None]:
        """See the port."""
        with self._unavailable_when_away():
            if await self._redis.zscore(_index_key(user_id), session_id) is None:
                return False, None
            [kept] = await self._end([session_id])
            await self._redis.zrem(_index_key(user_id), session_id)
            if kept is None:
                return False, None
            if await self._is_logged_in(user_id):
                return True, None
            await self._redis.delete(_guilds_key(user_id))
        return True, self._open_if_possible(kept)

    async def sessions_of(self, user_id: int) -> list[OpenSession]:
        """See the port."""
        with self._unavailable_when_away():
            session_ids = [_text(each) for each in await self._redis.zrevrange(_index_key(user_id), 0, -1)]
            async with self._redis.pipeline(transaction=False) as pipe:
                for session_id in session_ids:
                    pipe.get(_session_key(session_id))
                    pipe.pttl(_session_key(session_id))
                found = await pipe.execute()
        now_ms = self._now_ms()
        return [
            OpenSession(session_id, kept.created_at_ms, now_ms - IDLE_MS + left_ms)
            for session_id, kept_raw, left_ms in zip(session_ids, found[::2], found[1::2], strict=True)
            if (kept := _read(kept_raw, _Kept)) is not None and not self._is_over(kept)
        ]

    async def end_all(self, user_id: int) -> Tokens | None:
        """See the port."""
        with self._unavailable_when_away():
            session_ids = [_text(each) for each in await self._redis.zrange(_index_key(user_id), 0, -1)]
            if not session_ids:
                return None
            ended = [kept for kept in await self._end(session_ids) if kept is not None]
            async with self._redis.pipeline(transaction=True) as pipe:
                # Not the whole index: a login may have come in between.
                pipe.zrem(_index_key(user_id), *session_ids)
                pipe.delete(_guilds_key(user_id))
                await pipe.execute()
        return next((tokens for kept in ended if (tokens := self._open_if_possible(kept))), None)

    async def tokens(self, token: str) -> Tokens | None:
        """See the port."""
        with self._unavailable_when_away():
            kept = _read(await self._redis.get(_session_key(session_id_of(token))), _Kept)
        return None if kept is None else self._open(kept)

    async def keep_tokens(self, token: str, tokens: Tokens) -> bool:
        """See the port."""
        key = _session_key(session_id_of(token))
        with self._unavailable_when_away():
            kept = _read(await self._redis.get(key), _Kept)
            if kept is None:
                return False
            new = msgspec.structs.replace(kept, sealed_tokens=self._seal(tokens))
            # XX: a session that ended a moment ago stays ended.
            return bool(await self._redis.set(key, _encode(new), xx=True, keepttl=True))

    async def keep_guilds(self, user_id: int, guilds: tuple[SessionGuild, ...], as_of_ms: int) -> None:
        """See the port."""
        with self._unavailable_when_away():
            new = _GuildList(guilds, as_of_ms)
            await self._redis.set(_guilds_key(user_id), _encode(new), px=GUILDS_KEPT_MS)

    async def take_turn(self, task: str, for_ms: int) -> bool:
        """See the port."""
        with self._unavailable_when_away():
            return bool(await self._redis.set(_turn_key(task), 1, nx=True, px=for_ms))

    async def end_turn(self, task: str, rest_ms: int = 0) -> None:
        """See the port."""
        with self._unavailable_when_away():
            if rest_ms:
                await self._redis.set(_turn_key(task), 1, px=rest_ms)
            else:
                await self._redis.delete(_turn_key(task))

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """See the port."""
        with self._unavailable_when_away():
            await self._redis.set(_login_key(state), _encode(pending), px=LOGIN_MS)

    async def take_login(self, state: str) -> PendingLogin | None:
        """See the port."""
        with self._unavailable_when_away():
            return _read(await self._redis.getdel(_login_key(state)), PendingLogin)

    async def ping(self) -> None:
        """See the port."""
        with self._unavailable_when_away():
            await self._redis.execute_command("PING")

    async def _end(self, session_ids: Sequence[str]) -> list[_Kept | None]:
        """End sessions and tell it, in one step; return what they were."""
        async with self._redis.pipeline(transaction=True) as pipe:
            for session_id in session_ids:
                pipe.getdel(_session_key(session_id))
            for session_id in session_ids:
                pipe.publish(ENDED_CHANNEL, session_id)
            answers = await pipe.execute()
        return [_read(found, _Kept) for found in answers[: len(session_ids)]]

    async def _end_oldest(self, user_id: int, spared: str) -> None:
        """End the sessions that a person has too many of; those that ended by themselves are none of them.

        Never the one that has just begun: the clocks of replicas differ, and its date may be the oldest.
        """
        await self._is_logged_in(user_id)
        index = _index_key(user_id)
        begun = [_text(each) for each in await self._redis.zrange(index, 0, -1)]
        oldest = [each for each in begun if each != spared][: max(0, len(begun) - self._most)]
        if oldest:
            await self._end(oldest)
            await self._redis.zrem(index, *oldest)

    async def _is_logged_in(self, user_id: int) -> bool:
        """Return whether any session of a person is left; what ended by itself leaves the index."""
        index = _index_key(user_id)
        session_ids = [_text(each) for each in await self._redis.zrange(index, 0, -1)]
        if not session_ids:
            return False
        alive = await self._redis.mget([_session_key(session_id) for session_id in session_ids])
        gone = [session_id for session_id, found in zip(session_ids, alive, strict=True) if found is None]
        if gone:
            await self._redis.zrem(index, *gone)
        return len(gone) < len(session_ids)

    def _seal(self, tokens: Tokens | None) -> str | None:
        return None if tokens is None else self._sealer.seal(_encode(tokens))

    def _open(self, kept: _Kept) -> Tokens | None:
        if kept.sealed_tokens is None:
            return None
        return msgspec.json.decode(self._sealer.open(kept.sealed_tokens), type=Tokens)

    def _open_if_possible(self, kept: _Kept) -> Tokens | None:
        try:
            return self._open(kept)
        except SealBroken:
            return None


def _read(found: bytes | str | None, kind: type[T]) -> T | None:
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=kind)
    except msgspec.MsgspecError:  # written by another release: as good as nothing
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).decode()


def _session_key(session_id: str) -> str:
    return f"guildhall:session:{session_id}"


def _index_key(user_id: int) -> str:
    return f"guildhall:sessions-of:{user_id}"


def _guilds_key(user_id: int) -> str:
    return f"guildhall:guilds-of:{user_id}"


def _turn_key(task: str) -> str:
    return f"guildhall:turn:{task}"


def _login_key(state: str) -> str:
    return f"guildhall:login:{session_id_of(state)}"
