"""What the composition root hands to the web side."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from domain.audit import AuditLog
from domain.guild_settings import GuildSettingsStore
from domain.insights import InsightStore
from domain.network import Network
from domain.people import People
from domain.ports import Announcer, DashboardStore
from domain.rates import RateLimiter
from domain.replica_counts import CountsBoard
from domain.roles import GuildRoleSource, Roles
from domain.sessions import EndedSessions, LoginProvider, SessionLookup
from domain.socket_limits import OpenSockets, SocketLimits
from domain.supervision import SupervisionBoard
from domain.user_warnings import WarningStore
from serve_app.cache import Caches
from serve_app.pacing import Pace
from serve_app.sessions import Sessions

MAX_BODY_BYTES = 64 << 10


class WebSettings(msgspec.Struct, frozen=True):
    """What the web side must know of the world."""

    public_url: str
    """Where people reach the dashboard, without a slash at the end; logins come back to it."""
    static_dir: Path
    """The built page (``web/dist``)."""
    invite_url: str
    """Where a bot is invited, to be completed with ``&guild_id=…``."""
    operators: frozenset[int] = frozenset()
    """Who operates this installation, by user id."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses and networks whose word is taken for who asks; HAProxy stands on loopback."""
    max_body_bytes: int = MAX_BODY_BYTES

    @property
    def host(self) -> str:
        """The host, and the port if it is not the scheme's own, as browsers send it."""
        return urlsplit(self.public_url).netloc

    @property
    def behind_tls(self) -> bool:
        """Whether people come by https."""
        return self.public_url.startswith("https://")


def session_cookie_name(settings: WebSettings) -> str:
    """Return the cookie's name; behind TLS its prefix makes browsers hold it to this host."""
    return "__Host-guildhall" if settings.behind_tls else "guildhall"


def login_cookie_name(settings: WebSettings) -> str:
    """Return the name of the cookie that ties a login under way to its browser."""
    return "__Host-guildhall_login" if settings.behind_tls else "guildhall_login"


class ApiPorts(NamedTuple):
    """Everything an API replica reaches outside of itself."""

    settings: WebSettings
    store: DashboardStore
    sessions: Sessions
    login: LoginProvider
    now_ms: Callable[[], int]
    close: Callable[[], Awaitable[None]]
    audit: AuditLog
    people: People
    announcer: Announcer
    caches: Caches
    guild_settings: GuildSettingsStore
    warnings: WarningStore
    limiter: RateLimiter
    roles: Roles
    discord_roles: GuildRoleSource
    insights: InsightStore
    network: Network
    counts: CountsBoard
    supervision: SupervisionBoard
    replica: str
    """What this replica is called among all of both kinds; another life has another name."""
    monotonic_s: Callable[[], float] = time.monotonic


class RelayPorts(NamedTuple):
    """Everything a relay replica reaches outside of itself, the hosts aside."""

    settings: WebSettings
    sessions: SessionLookup
    roles: Roles
    audit: AuditLog
    close: Callable[[], Awaitable[None]]
    limiter: RateLimiter
    ended: EndedSessions
    counts: CountsBoard
    replica: str
    """What this replica is called among all of both kinds; another life has another name."""
    open_sockets: OpenSockets
    socket_limits: SocketLimits = SocketLimits()
    pace: Pace = Pace()
    monotonic_s: Callable[[], float] = time.monotonic
    now_ms: Callable[[], int] = lambda: int(time.time() * 1000)
