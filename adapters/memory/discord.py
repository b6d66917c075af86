"""The twins of Discord: a login that trusts codes it was told of, and a bot that a test speaks through."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import msgspec

from adapters.clock import now_ms as wall_clock_ms
from adapters.memory.samples import NOON_MS
from domain.authority import AuthorityNotice
from domain.detection import Message
from domain.errors import BotRefused, LoginFailed
from domain.events import Event, Gap
from domain.ports import (
    BotHandler,
    BotProgress,
    EarlierLife,
    GatewaySession,
    Position,
    ShardState,
)
from domain.sessions import Identity, SessionGuild, Tokens


class MemoryLogin:
    """Implements :class:`domain.sessions.LoginProvider`: a code is good once, with the verifier made for it.

    ``problem`` is raised by every question, ``asked`` counts them; ``life_ms`` is how long tokens are good.
    """

    def __init__(
        self,
        authorize_url: str = "http://discord.invalid/authorize",
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.problem: Exception | None = None
        self.asked: Counter[str] = Counter()
        self.life_ms = 7 * 24 * 3_600_000
        self._authorize_url = authorize_url
        self._now_ms = now_ms
        self._codes: dict[tuple[str, str], Identity] = {}
        self._guilds: dict[int, tuple[SessionGuild, ...]] = {}
        self._pairs: dict[str, tuple[int, Tokens]] = {}

    def allow(self, code: str, code_verifier: str, identity: Identity) -> None:
        """Make a code good for an identity, as the consent page does."""
        self._codes[code, code_verifier] = identity

    def move(self, user_id: int, guilds: tuple[SessionGuild, ...]) -> None:
        """Let somebody be in these guilds from now on."""
        self._guilds[user_id] = guilds

    def disown(self, user_id: int) -> None:
        """Let somebody take back what they allowed us."""
        self._pairs = {token: pair for token, pair in self._pairs.items() if pair[0] != user_id}

    def has_pairs(self, user_id: int) -> bool:
        """Return whether any token still speaks for somebody."""
        return any(pair[0] == user_id for pair in self._pairs.values())

    def authorize_url(self, state: str, code_verifier: str) -> str:
        """See the port. The verifier is a secret and does not appear."""
        del code_verifier
        return f"{self._authorize_url}?{urlencode({'state': state})}"

    async def identify(self, code: str, code_verifier: str) -> Identity:
        """See the port."""
        identity = self._codes.pop((code, code_verifier), None)
        if identity is None:
            raise LoginFailed
        user_id = identity.user.user_id
        self._guilds[user_id] = identity.guilds
        return msgspec.structs.replace(identity, tokens=self._issue(user_id))

    async def guilds(self, access_token: str) -> tuple[SessionGuild, ...]:
        """See the port."""
        self._note("guilds")
        user_id, tokens = self._pairs.get(access_token, (0, None))
        if tokens is None or access_token != tokens.access_token or tokens.expires_at_ms <= self._now_ms():
            raise LoginFailed
        return self._guilds[user_id]

    async def renew(self, refresh_token: str) -> Tokens:
        """See the port."""
        self._note("renew")
        user_id, tokens = self._pairs.get(refresh_token, (0, None))
        if tokens is None or refresh_token != tokens.refresh_token:
            raise LoginFailed
        del self._pairs[tokens.access_token], self._pairs[tokens.refresh_token]
        return self._issue(user_id)

    async def revoke(self, tokens: Tokens) -> None:
        """See the port."""
        self._note("revoke")
        user_id, _ = self._pairs.get(tokens.refresh_token, (0, None))
        self.disown(user_id)

    def _issue(self, user_id: int) -> Tokens:
        access_token, refresh_token = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        tokens = Tokens(access_token, refresh_token, self._now_ms() + self.life_ms)
        self._pairs[access_token] = self._pairs[refresh_token] = (user_id, tokens)
        return tokens

    def _note(self, question: str) -> None:
        self.asked[question] += 1
        if self.problem is not None:
            raise self.problem


class MemoryBot:
    """Implements :class:`domain.ports.BotConnection`; records deletions in ``deleted``.

    ``refusal`` makes ``start`` raise ``BotRefused``. ``on_delete`` decides how a deletion ends, and may
    hold it or raise; without it every deletion succeeds. ``heard_ms`` is until when it says to have heard.
    With ``keeps_session`` a runner's next life, given the same bot, is told again what it does not have.
    """

    def __init__(self, *, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.on_delete: Callable[[int, int], Awaitable[bool]] | None = None
        self.deleted: list[tuple[int, int]] = []
        self.connected = False
        self.heard_ms = NOON_MS
        self.keeps_session = False
        self.session_id = secrets.token_hex(4)
        self.told: list[Message | Event] = []
        self.earlier = EarlierLife()
        self._handler: BotHandler | None = None

    async def start(self, handler: BotHandler, earlier: EarlierLife | None = None) -> None:
        """See the port."""
        if self.refusal is not None:
            raise BotRefused(self.refusal)
        self._handler = handler
        self.connected = True
        self.earlier = earlier or EarlierLife()
        heard_ms = self.earlier.heard_until_ms
        if heard_ms is None or self._take_up(self.earlier):
            return
        handler.on_gap(Gap(heard_ms, max(heard_ms, self.heard_ms), 0, "blind"))

    def progress(self) -> BotProgress:
        """See the port."""
        return BotProgress(1, int(self.connected))

    async def stop(self) -> None:
        """See the port."""
        self.connected = False

    def shards(self) -> tuple[ShardState, ...]:
        """See the port."""
        session = GatewaySession(self.session_id, "ws://discord.invalid", len(self.told))
        return (ShardState(0, self.heard_ms, session if self.keeps_session else None),)

    def changed_guilds(self) -> dict[int, bytes | None]:
        """See the port."""
        return {}

    async def delete_message(self, channel_id: int, message_id: int) -> bool:
        """See the port."""
        gone = True if self.on_delete is None else await self.on_delete(channel_id, message_id)
        if gone:
            self.deleted.append((channel_id, message_id))
        return gone

    def post(self, message: Message) -> None:
        """Let somebody post a message."""
        self._tell(message)

    def tell(self, event: Event) -> None:
        """Let something happen in a guild."""
        self._tell(event)

    def _tell(self, what: Message | Event) -> None:
        self._connected_handler()
        self.told.append(what)
        self._hand_on(len(self.told))

    def _hand_on(self, sequence: int) -> None:
        what, at = self.told[sequence - 1], Position(0, self.session_id, sequence)
        if isinstance(what, Message):
            self._connected_handler().on_message(what, at)
        else:
            self._connected_handler().on_event(what, at)

    def _take_up(self, earlier: EarlierLife) -> bool:
        """Tell again what was told behind where a session is taken up; return whether there is one."""
        sessions = [shard.session for shard in earlier.shards if shard.session is not None]
        if not self.keeps_session or [each.session_id for each in sessions] != [self.session_id]:
            return False
        for sequence in range(sessions[0].sequence + 1, len(self.told) + 1):
            self._hand_on(sequence)
        return True

    def miss(self, gap: Gap) -> None:
        """Let the bot find that it missed a time, and hear again."""
        self.heard_ms = gap.until_ms
        self._connected_handler().on_gap(gap)

    def tell_authority(self, notice: AuthorityNotice) -> None:
        """Let the gateway say that somebody lost or gained authority."""
        self._connected_handler().on_authority(notice)

    def _connected_handler(self) -> BotHandler:
        if self._handler is None or not self.connected:
            message = "the bot is not connected"
            raise RuntimeError(message)
        return self._handler
