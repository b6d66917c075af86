"""The addresses, secrets and limits of a network, as its replicas and actors are given them."""

from __future__ import annotations

from pathlib import Path

import msgspec

from domain.rates import Rates
from domain.sessions import MAX_SESSIONS
from domain.socket_limits import SocketLimits
from serve_app.ports import MAX_BODY_BYTES, WebSettings

BOT_PERMISSIONS = 1 << 13 | 1 << 10 | 1 << 7 | 1 << 40
"""Manage messages, view channels, view the audit log, moderate members."""


class Wiring(msgspec.Struct, frozen=True):
    """Every address and secret, resolved: what was embedded has its own by now."""

    database_url: str
    redis_url: str
    public_url: str
    static_dir: Path
    client_id: str
    client_secret: str
    authorize_url: str
    api_base: str
    bot_token: str
    user_resolvers: int
    operators: frozenset[int] = frozenset()
    secret_keys: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    rates: Rates = Rates()
    max_body_bytes: int = MAX_BODY_BYTES
    socket_limits: SocketLimits = SocketLimits()
    max_sessions: int = MAX_SESSIONS
    live_tick_ms: int = 25

    @property
    def web(self) -> WebSettings:
        """What the web side must know."""
        invite = f"{self.authorize_url}?client_id={self.client_id}"
        return WebSettings(
            public_url=self.public_url,
            static_dir=self.static_dir,
            invite_url=f"{invite}&scope=bot+applications.commands&permissions={BOT_PERMISSIONS}",
            operators=self.operators,
            trusted_proxies=self.trusted_proxies,
            max_body_bytes=self.max_body_bytes,
        )
