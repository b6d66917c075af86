"""The twin of Redis as far as sessions go."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping

import msgspec

from adapters.clock import now_ms as wall_clock_ms
from adapters.heard_ends import HeardEnds
from domain.errors import SessionsUnavailable
from domain.sessions import (
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


class _Kept(msgspec.Struct):
    session: Session
    tokens: Tokens | None
    until_ms: int


class MemorySessions:
    """Implements :class:`domain.sessions.SessionStore`. ``available = False`` makes every call raise.

    ``ended`` holds the ids of the sessions that were told to have ended, in order.
    """

    def __init__(self, now_ms: Callable[[], int] = wall_clock_ms, *, most: int = MAX_SESSIONS) -> None:
        self.available = True
        self.ended: list[str] = []
        self._now_ms = now_ms
        self._most = most
        self._sessions: dict[str, _Kept] = {}
        self._guilds: dict[int, tuple[tuple[SessionGuild, ...], int]] = {}
        self._turns: dict[str, int] = {}
        self._logins: dict[str, tuple[int, PendingLogin]] = {}
        self._listening: list[HeardEnds] = []

    async def create(self, session: Session, tokens: Tokens | None = None) -> str:
        """See the port."""
        self._require()
        token = secrets.token_urlsafe(32)
        named = msgspec.structs.replace(session, session_id=session_id_of(token))
        self._sessions[token] = _Kept(named, tokens, self._now_ms() + IDLE_MS)
        self._guilds[session.user.user_id] = (session.guilds, session.created_at_ms)
        tokens_of_user = self._tokens_of(session.user.user_id)
        # Never the one that was asked for: the clocks of replicas differ, and its date may be the oldest.
        others = sorted((each for each in tokens_of_user if each != token), key=self._created)
        for oldest in others[: max(0, len(tokens_of_user) - self._most)]:
            self._end(oldest)
        return token

    async def get(self, token: str, *, touch: bool = True) -> Session | None:
        """See the port."""
        self._require()
        if (kept := self._alive(token)) is None:
            return None
        if touch:
            kept.until_ms = self._now_ms() + IDLE_MS
        guilds, as_of_ms = self._list_of(kept.session.user.user_id) or ((), 0)
        return msgspec.structs.replace(kept.session, guilds=guilds, guilds_as_of_ms=as_of_ms)

    async def alive(self, session_ids: Collection[str]) -> set[str]:
        """See the port."""
        if not session_ids:
            return set()
        self._require()
        alive = {kept.session.session_id for token in self._sessions if (kept := self._alive(token))}
        return alive.intersection(session_ids)

    async def guild_lists(self, user_ids: Collection[int]) -> dict[int, Memberships]:
        """See the port."""
        self._require()
        return {user_id: found for user_id in user_ids if (found := self._list_of(user_id)) is not None}

    async def memberships(self, people: Mapping[int, str]) -> dict[int, Memberships]:
        """See :class:`domain.sessions.SessionLookup`; nobody is asked behind it."""
        return await self.guild_lists(people)

    async def end(self, token: str) -> Tokens | None:
        """See the port."""
        self._require()
        kept = self._alive(token)
        self._end(token)
        if kept is None or self._tokens_of(kept.session.user.user_id):
            return None
        self._guilds.pop(kept.session.user.user_id, None)
        return kept.tokens

    async def end_one(self, user_id: int, session_id: str) -> tuple[bool, Tokens | None]:
        """See the port."""
        self._require()
        for token in self._tokens_of(user_id):
            if session_id_of(token) == session_id:
                return True, await self.end(token)
        return False, None

    async def sessions_of(self, user_id: int) -> list[OpenSession]:
        """See the port."""
        self._require()
        return [
            OpenSession(session_id_of(token), self._created(token), self._sessions[token].until_ms - IDLE_MS)
            for token in sorted(self._tokens_of(user_id), key=self._created, reverse=True)
        ]

    async def end_all(self, user_id: int) -> Tokens | None:
        """See the port."""
        self._require()
        tokens = self._tokens_of(user_id)
        pairs = [kept.tokens for token in tokens if (kept := self._alive(token)) and kept.tokens]
        for token in tokens:
            self._end(token)
        self._guilds.pop(user_id, None)
        return pairs[0] if pairs else None

    async def tokens(self, token: str) -> Tokens | None:
        """See the port."""
        self._require()
        kept = self._alive(token)
        return kept.tokens if kept else None

    async def keep_tokens(self, token: str, tokens: Tokens) -> bool:
        """See the port."""
        self._require()
        if (kept := self._alive(token)) is None:
            return False
        kept.tokens = tokens
        return True

    async def keep_guilds(self, user_id: int, guilds: tuple[SessionGuild, ...], as_of_ms: int) -> None:
        """See the port."""
        self._require()
        self._guilds[user_id] = (guilds, as_of_ms)

    async def take_turn(self, task: str, for_ms: int) -> bool:
        """See the port."""
        self._require()
        if self._now_ms() < self._turns.get(task, 0):
            return False
        self._turns[task] = self._now_ms() + for_ms
        return True

    async def end_turn(self, task: str, rest_ms: int = 0) -> None:
        """See the port."""
        self._require()
        self._turns[task] = self._now_ms() + rest_ms

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """See the port."""
        self._require()
        self._logins[state] = (self._now_ms() + LOGIN_MS, pending)

    async def take_login(self, state: str) -> PendingLogin | None:
        """See the port."""
        self._require()
        ends_ms, pending = self._logins.pop(state, (0, None))
        return pending if self._now_ms() < ends_ms else None

    async def ping(self) -> None:
        """See the port."""
        self._require()

    def tell(self, heard: HeardEnds) -> None:
        """Tell somebody of every session that is ended from now on."""
        self._listening.append(heard)

    def _alive(self, token: str) -> _Kept | None:
        kept = self._sessions.get(token)
        if kept is None or min(kept.until_ms, kept.session.created_at_ms + SESSION_MS) <= self._now_ms():
            return None
        return kept

    def _list_of(self, user_id: int) -> Memberships | None:
        guilds, as_of_ms = self._guilds.get(user_id, ((), 0))
        return Memberships(guilds, as_of_ms) if as_of_ms + GUILDS_KEPT_MS > self._now_ms() else None

    def _tokens_of(self, user_id: int) -> list[str]:
        """Return the tokens of a person's sessions."""
        mine = [token for token, kept in self._sessions.items() if kept.session.user.user_id == user_id]
        return [token for token in mine if self._alive(token)]

    def _created(self, token: str) -> int:
        return self._sessions[token].session.created_at_ms

    def _end(self, token: str) -> None:
        if self._sessions.pop(token, None):
            self.ended.append(session_id_of(token))
            for heard in self._listening:
                heard.hear(self.ended[-1])

    def _require(self) -> None:
        if not self.available:
            raise SessionsUnavailable


class MemoryEndedSessions(HeardEnds):
    """Implements :class:`domain.sessions.EndedSessions`; which it begins to be at once.

    ``miss()`` is what a connection does that broke for a moment.
    """

    def __init__(self, sessions: MemorySessions) -> None:
        super().__init__()
        sessions.tell(self)
        self.miss()
