"""The twins of Discord: a login that trusts codes it was told of, and a bot that a test speaks through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from adapters.memory.samples import NOON_MS
from domain.detection import Message
from domain.errors import BotRefused, LoginFailed
from domain.events import Event, Gap
from domain.ports import BotHandler
from domain.sessions import Identity


class MemoryLogin:
    """Implements :class:`domain.ports.LoginProvider`: a code is good once, with the verifier made for it."""

    def __init__(self, authorize_url: str = "http://discord.invalid/authorize") -> None:
        self._authorize_url = authorize_url
        self._codes: dict[tuple[str, str], Identity] = {}

    def allow(self, code: str, code_verifier: str, identity: Identity) -> None:
        """Make a code good for an identity, as the consent page does."""
        self._codes[code, code_verifier] = identity

    def authorize_url(self, state: str, code_verifier: str) -> str:
        """See the port. The verifier is a secret and does not appear."""
        del code_verifier
        return f"{self._authorize_url}?{urlencode({'state': state})}"

    async def identify(self, code: str, code_verifier: str) -> Identity:
        """See the port."""
        identity = self._codes.pop((code, code_verifier), None)
        if identity is None:
            raise LoginFailed
        return identity


class MemoryBot:
    """Implements :class:`domain.ports.BotConnection`; records deletions in ``deleted``.

    ``refusal`` makes ``start`` raise ``BotRefused``. ``on_delete`` decides how a deletion ends, and may
    hold it or raise; without it every deletion succeeds. ``heard_ms`` is until when it says to have heard.
    """

    def __init__(self, *, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.on_delete: Callable[[int, int], Awaitable[bool]] | None = None
        self.deleted: list[tuple[int, int]] = []
        self.connected = False
        self.heard_ms = NOON_MS
        self._handler: BotHandler | None = None

    async def start(self, handler: BotHandler) -> None:
        """See the port."""
        if self.refusal is not None:
            raise BotRefused(self.refusal)
        self._handler = handler
        self.connected = True

    async def stop(self) -> None:
        """See the port."""
        self.connected = False

    def heard_until_ms(self) -> int:
        """See the port."""
        return self.heard_ms

    async def delete_message(self, channel_id: int, message_id: int) -> bool:
        """See the port."""
        gone = True if self.on_delete is None else await self.on_delete(channel_id, message_id)
        if gone:
            self.deleted.append((channel_id, message_id))
        return gone

    def post(self, message: Message) -> None:
        """Let somebody post a message."""
        self._connected_handler().on_message(message)

    def tell(self, event: Event) -> None:
        """Let something happen in a guild."""
        self._connected_handler().on_event(event)

    def miss(self, gap: Gap) -> None:
        """Let the bot find that it missed a time, and hear again."""
        self.heard_ms = gap.until_ms
        self._connected_handler().on_gap(gap)

    def _connected_handler(self) -> BotHandler:
        if self._handler is None or not self.connected:
            message = "the bot is not connected"
            raise RuntimeError(message)
        return self._handler
