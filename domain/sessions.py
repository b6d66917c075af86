"""People who are logged in: what is known of them, where it is kept, and what Discord is asked for them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Collection, Mapping
from typing import NamedTuple, Protocol

import msgspec

from domain.events import UserRef

SESSION_MS = 7 * 24 * 3_600_000
"""However busy it is, a session ends this long after its login."""

MAX_SESSIONS = 10
"""Of one person; a login beyond it ends the oldest."""

IDLE_MS = 24 * 3_600_000
"""A session that nobody uses for this long is over."""

LOGIN_MS = 10 * 60_000
"""How long a login may stay away at Discord."""

GUILDS_KEPT_MS = 24 * 3_600_000
"""How old a list of guilds may be that is shown while Discord says nothing newer."""

CLOCKS_DIFFER_MS = 10_000
"""A list that is newer than now by more was dated by a clock that was set back since, or that goes wrong."""

ENDED_CHANNEL = "guildhall:sessions:ended"
"""Where the store tells the id of every session that was ended, at most once."""


def list_age_ms(as_of_ms: int, now_ms: int) -> int:
    """Return how old a list of guilds is; one from the future is as old as one can be."""
    age_ms = now_ms - as_of_ms
    return age_ms if age_ms >= -CLOCKS_DIFFER_MS else GUILDS_KEPT_MS


class SessionGuild(msgspec.Struct, frozen=True):
    """A guild that a person is in, as Discord last said."""

    guild_id: int
    name: str
    icon_url: str | None
    owns: bool
    permissions: int


class Session(msgspec.Struct, frozen=True):
    """A person who has logged in."""

    user: UserRef
    guilds: tuple[SessionGuild, ...]
    """Filled in when the session is looked up: the list is the person's, not the session's."""
    csrf_token: str
    created_at_ms: int
    session_id: str = ""
    """Names the session where its token must not be seen; given by the store."""
    guilds_as_of_ms: int = 0
    """When Discord was asked for the list of guilds; 0: there is none."""
    confirmed: bool = True
    """False where the store could not be asked and a replica answers from memory: good for reading only."""

    def guild(self, guild_id: int) -> SessionGuild | None:
        """Return the person's membership in a guild, or None."""
        return next((guild for guild in self.guilds if guild.guild_id == guild_id), None)


class Memberships(NamedTuple):
    """Where somebody is a member, as Discord last said, and when it was asked; 0: there is no list."""

    guilds: tuple[SessionGuild, ...]
    as_of_ms: int

    def guild(self, guild_id: int) -> SessionGuild | None:
        """Return the person's membership in a guild, or None."""
        return next((guild for guild in self.guilds if guild.guild_id == guild_id), None)


class OpenSession(msgspec.Struct, frozen=True):
    """One of a person's sessions, as they are shown it."""

    session_id: str
    created_at_ms: int
    used_at_ms: int
    """When it was last used."""


class PendingLogin(msgspec.Struct, frozen=True):
    """A login that went off to Discord and has not come back yet."""

    code_verifier: str
    next_path: str


class Tokens(msgspec.Struct, frozen=True):
    """What Discord answers to in a person's name. Secrets: they show in no representation."""

    access_token: str
    refresh_token: str
    expires_at_ms: int

    def __repr__(self) -> str:
        return f"Tokens(…, expires_at_ms={self.expires_at_ms})"


class Identity(msgspec.Struct, frozen=True):
    """Who Discord says somebody is, where they are a member, and how to ask again."""

    user: UserRef
    guilds: tuple[SessionGuild, ...]
    tokens: Tokens | None = None


def session_id_of(token: str) -> str:
    """Return the id of the session that a cookie's token opens; it tells nothing of the token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class SessionLookup(Protocol):
    """Who is behind a cookie."""

    async def get(self, token: str) -> Session | None:
        """Return the session of a token, or None when it is none (any more).

        Raises:
            SessionsUnavailable: that cannot be said now.

        """
        ...

    async def alive(self, session_ids: Collection[str]) -> set[str]:
        """Return those of the sessions that have not ended; raises like ``get``."""
        ...

    async def memberships(self, people: Mapping[int, str]) -> dict[int, Memberships]:
        """Return where these people are members, by id and with a token of each; raises like ``get``.

        A list that is no longer fresh is asked for anew behind the answer. No session is kept alive by it.
        """
        ...


class EndedSessions(Protocol):
    """Ids of the sessions that are ended, wherever that is, for one who listens; nothing is raised.

    ``None`` comes when some may have been missed, and first of all: whoever holds sessions then asks which of
    them are alive. Sessions that end by themselves, of age or because nobody used them, are not told.
    """

    def __aiter__(self) -> AsyncIterator[str | None]:
        """Return what is listened to."""
        ...

    async def __anext__(self) -> str | None:
        """Return what was heard next; who gives up waiting for it misses nothing."""
        ...

    async def close(self) -> None:
        """Hear no more: whoever listens is at the end."""
        ...


class SessionStore(Protocol):
    """Sessions, logins under way, and what goes with them. All calls raise ``SessionsUnavailable``.

    Tokens of sessions are secrets of which only hashes are kept; tokens of Discord are kept sealed.
    """

    async def create(self, session: Session, tokens: Tokens | None = None) -> str:
        """Keep a session, and its guilds as the person's list; return the token that its cookie carries.

        Of a person who has too many the oldest end, as by ``end``.
        """
        ...

    async def get(self, token: str, *, touch: bool = True) -> Session | None:
        """Return the session of a token, or None when it ended or never was.

        Being asked for keeps it alive, unless it is not to be touched.

        Its guilds are the person's last list, none when there is no list of the last day.
        """
        ...

    async def alive(self, session_ids: Collection[str]) -> set[str]:
        """Return those of the sessions that ``get`` would find, however many; keeps none of them alive."""
        ...

    async def guild_lists(self, user_ids: Collection[int]) -> dict[int, Memberships]:
        """Return these people's last lists, however many; nobody's whose list is older than a day."""
        ...

    async def end(self, token: str) -> Tokens | None:
        """End a session at once, and tell on ``ENDED_CHANNEL``.

        Returns its tokens when it was the person's last session, so that Discord can be told: to revoke one
        pair ends every pair that the person gave us.
        """
        ...

    async def end_one(self, user_id: int, session_id: str) -> tuple[bool, Tokens | None]:
        """End one of a person's sessions like ``end``; return whether it was one, and what ``end`` does."""
        ...

    async def sessions_of(self, user_id: int) -> list[OpenSession]:
        """Return a person's sessions, the newest login first; keeps none of them alive."""
        ...

    async def end_all(self, user_id: int) -> Tokens | None:
        """End all of a person's sessions like ``end``; return one of their pairs."""
        ...

    async def tokens(self, token: str) -> Tokens | None:
        """Return what Discord answers to for a session; None when it has ended or has none.

        Raises:
            SealBroken: they cannot be opened with any of today's keys.

        """
        ...

    async def keep_tokens(self, token: str, tokens: Tokens) -> bool:
        """Replace a session's tokens; False when it has ended in the meantime."""
        ...

    async def keep_guilds(self, user_id: int, guilds: tuple[SessionGuild, ...], as_of_ms: int) -> None:
        """Replace a person's list of guilds."""
        ...

    async def take_turn(self, task: str, for_ms: int) -> bool:
        """Return whether a task is the caller's to do: nobody else gets it till then, or ``end_turn``."""
        ...

    async def end_turn(self, task: str, rest_ms: int = 0) -> None:
        """Let others have the turn, after a rest if one is given."""
        ...

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        """Keep a login that is under way, for ten minutes."""
        ...

    async def take_login(self, state: str) -> PendingLogin | None:
        """Return a login that is under way and forget it: a state works once."""
        ...

    async def ping(self) -> None:
        """Return when the session store answers."""
        ...


class LoginProvider(Protocol):
    """Discord's OAuth2."""

    def authorize_url(self, state: str, code_verifier: str) -> str:
        """Return where to send a person who wants to log in."""
        ...

    async def identify(self, code: str, code_verifier: str) -> Identity:
        """Trade the code that a person came back with for who they are; raise ``LoginFailed`` if refused."""
        ...

    async def guilds(self, access_token: str) -> tuple[SessionGuild, ...]:
        """Return where a person is a member now.

        Raises:
            LoginFailed: the token is not good (any more).
            DiscordUnavailable: Discord does not say, ``DiscordBusy`` for how long.

        """
        ...

    async def renew(self, refresh_token: str) -> Tokens:
        """Trade a refresh token for a new pair; raises like ``guilds``."""
        ...

    async def revoke(self, tokens: Tokens) -> None:
        """End all that a person allowed us; raise ``DiscordUnavailable`` when that cannot be said."""
        ...
