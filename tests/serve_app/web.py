"""The HTTP application on the twins, and people who ask it; nothing leaves the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from fastapi import FastAPI

from adapters.memory import (
    MemoryAnnouncer,
    MemoryAuditLog,
    MemoryClock,
    MemoryCounts,
    MemoryDashboardStore,
    MemoryDatabase,
    MemoryInsightStore,
    MemoryLogin,
    MemoryMembers,
    MemoryNetwork,
    MemoryPeople,
    MemoryRateLimiter,
    MemorySessions,
    MemorySettingsStore,
    MemorySupervision,
    MemoryWarningStore,
)
from adapters.memory.samples import person
from domain.audit import AuditRow
from domain.permissions import ADMINISTRATOR
from domain.rates import Rates
from domain.sessions import PendingLogin, Session, SessionGuild
from serve_app.app import create_app
from serve_app.cache import Caches, ForgettingAnnouncer
from serve_app.ports import ApiPorts, WebSettings, session_cookie_name
from serve_app.sessions import Sessions
from tests.memory_rbac import memory_rbac

PLAIN, TLS = "http://guildhall.test", "https://guildhall.test"
INVITE_URL = "http://discord.invalid/authorize?client_id=1"
GENEROUS = Rates(*["100000 per second"] * 5)
GUILD = 40
USER_IDS = {"owner": 2, "admin": 3, "outsider": 4, "moderator": 5, "viewer": 6, "operator": 7, "stranger": 8}


def membership(guild_id: int = GUILD, *, owns: bool = False, permissions: int = 0) -> SessionGuild:
    return SessionGuild(guild_id, f"Guild {guild_id}", None, owns, permissions)


class RememberingSessions(MemorySessions):
    """Also tells what a login that is under way was given."""

    def __init__(self, clock: MemoryClock) -> None:
        super().__init__(clock)
        self.pending: dict[str, PendingLogin] = {}

    async def remember_login(self, state: str, pending: PendingLogin) -> None:
        await super().remember_login(state, pending)
        self.pending[state] = pending


class Web:
    """The application, its twins, and a browser."""

    def __init__(self, public_url: str, static_dir: Path, rates: Rates = GENEROUS, **settings: Any) -> None:
        operators = frozenset({USER_IDS["operator"]})
        self.settings = WebSettings(public_url, static_dir, INVITE_URL, operators, **settings)
        self.clock = MemoryClock()
        self.database = MemoryDatabase(self.clock)
        self.store = MemoryDashboardStore(self.database)
        self.insights = MemoryInsightStore(self.database)
        self.audit = MemoryAuditLog(self.database)
        self.people = MemoryPeople()
        self.network = MemoryNetwork(self.database)
        self.guild_settings = MemorySettingsStore(self.database)
        self.warnings = MemoryWarningStore(self.database)
        self.sessions = RememberingSessions(self.clock)
        self.login = MemoryLogin(now_ms=self.clock)
        self.limiter = MemoryRateLimiter(rates, self.clock)
        self.announcer = MemoryAnnouncer()
        self.caches = Caches(self.clock)
        self.counts = MemoryCounts(self.clock)
        self.supervision = MemorySupervision(self.clock)
        self.members = MemoryMembers()
        self.rbac = memory_rbac(self.database, self.members, self.monotonic_s)
        self.opened = self.closed = 0
        self.app: FastAPI = create_app(self.settings, self._open)
        self.browser = self.new_browser()

    async def _open(self) -> ApiPorts:
        self.opened += 1
        return ApiPorts(
            settings=self.settings,
            store=self.store,
            sessions=Sessions(self.sessions, self.login, self.clock, monotonic_s=lambda: self.clock() / 1000),
            login=self.login,
            now_ms=self.clock,
            close=self._close,
            audit=self.audit,
            people=self.people,
            guild_settings=self.guild_settings,
            warnings=self.warnings,
            network=self.network,
            counts=self.counts,
            supervision=self.supervision,
            replica="replica",
            limiter=self.limiter,
            announcer=ForgettingAnnouncer(self.caches, self.announcer),
            caches=self.caches,
            roles=self.rbac,
            discord_roles=self.members,
            insights=self.insights,
            monotonic_s=self.monotonic_s,
        )

    def monotonic_s(self) -> float:
        return self.clock() / 1000

    async def _close(self) -> None:
        self.closed += 1

    def new_browser(self, cookie: str | None = None) -> httpx2.AsyncClient:
        cookies = {session_cookie_name(self.settings): cookie} if cookie else None
        transport = httpx2.ASGITransport(app=self.app)
        return httpx2.AsyncClient(transport=transport, base_url=self.settings.public_url, cookies=cookies)

    async def browser_of(self, *guilds: SessionGuild, user_id: int = 1) -> httpx2.AsyncClient:
        """Return the browser of somebody who is logged in and in these guilds."""
        session = Session(person(user_id), guilds, f"csrf-{user_id}", self.clock())
        return self.new_browser(await self.sessions.create(session))

    async def browser_of_role(self, role: str) -> httpx2.AsyncClient:
        """Return the browser of nobody, a stranger, a member without a role, or who has one in ``GUILD``."""
        if role == "nobody":
            return self.new_browser()
        user_id = USER_IDS[role]
        match role:
            case "stranger":
                return await self.browser_of(user_id=user_id)
            case "moderator" | "viewer":
                self.database.roles[GUILD, user_id] = role
                member = membership()
            case "admin":
                member = membership(permissions=ADMINISTRATOR)
            case _:
                member = membership(owns=role == "owner")
        return await self.browser_of(member, user_id=user_id)

    def csrf_of(self, role: str) -> str:
        """Return the token that somebody of :meth:`browser_of_role` has to show for a change."""
        return f"csrf-{USER_IDS.get(role)}"

    async def denied(self) -> list[AuditRow]:
        """Return who was turned away, as the audit log tells it."""
        await self.app.state.gate.denials.write(everything=True)
        return [row for row in self.database.audit if row.entry.action == "access.denied"]

    async def begin_login(self, next_path: str = "/") -> str:
        """Send the browser off to log in; return the state that it carries."""
        answer = await self.browser.get("/api/auth/login", params={"next": next_path})
        assert answer.status_code == 307
        [state] = query(answer.headers["location"])["state"]
        return state


@asynccontextmanager
async def running(
    public_url: str, static_dir: Path, rates: Rates = GENEROUS, **settings: Any
) -> AsyncIterator[Web]:
    """Run the application from its start to its end; people may ask as often as they like, mostly."""
    web = Web(public_url, static_dir, rates, **settings)
    async with web.app.router.lifespan_context(web.app), web.browser:
        yield web


def query(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query)


async def ask_raw(
    app: FastAPI, path: str, *, method: str = "GET", headers: tuple[tuple[bytes, bytes], ...] = ()
) -> httpx2.Response:
    """Ask with a path and headers as no client library would send them."""
    sent: list[Any] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # it stays and listens
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"guildhall.test"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("guildhall.test", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return httpx2.Response(sent[0]["status"], headers=sent[0]["headers"], content=body)
