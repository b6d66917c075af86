"""The HTTP application in this process, without Ray: on what is measured, and on twins for the rest."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import structlog

from actors.member_roles import MemberRoles, MemberRolesSettings
from actors.rbac import Rbac
from adapters.memory import (
    MemoryAnnouncer,
    MemoryAuditLog,
    MemoryAuthorityStore,
    MemoryCounts,
    MemoryDatabase,
    MemoryLogin,
    MemoryMembers,
    MemoryNetwork,
    MemoryPeople,
    MemoryRateLimiter,
    MemoryRoleStore,
    MemorySessions,
    MemorySettingsStore,
    MemorySupervision,
    MemoryWarningStore,
)
from adapters.memory.samples import person
from domain.insights import InsightStore
from domain.ports import DashboardStore
from domain.rates import Rates
from domain.sessions import Session, SessionGuild
from serve_app.app import create_app
from serve_app.cache import Caches
from serve_app.ports import ApiPorts, WebSettings, session_cookie_name
from serve_app.sessions import Sessions

_NO_LIMIT = Rates(*["1000000 per second"] * 5)


@asynccontextmanager
async def owner_browser(
    guild_id: int, now_ms: int, *, store: DashboardStore, insights: InsightStore
) -> AsyncIterator[httpx2.AsyncClient]:
    """Run the application on these stores, remembering nothing; give the browser of the guild's owner."""

    def clock() -> int:
        return now_ms

    async def open_roles() -> MemoryRoleStore:
        return MemoryRoleStore(rows)

    async def close() -> None:
        pass

    async def open_ports() -> ApiPorts:
        return ApiPorts(
            settings=settings,
            store=store,
            sessions=Sessions(sessions, login, clock),
            login=login,
            now_ms=clock,
            close=close,
            audit=MemoryAuditLog(rows),
            people=MemoryPeople(),
            announcer=MemoryAnnouncer(),
            caches=Caches(clock),  # nobody tells it of changes, so it remembers nothing
            guild_settings=MemorySettingsStore(rows),
            warnings=MemoryWarningStore(rows),
            supervision=MemorySupervision(clock),
            limiter=MemoryRateLimiter(_NO_LIMIT),
            roles=Rbac(
                open_roles,
                lambda: MemberRoles(MemberRolesSettings(), MemoryMembers()),
                MemoryAuthorityStore,
                clock,
            ),
            discord_roles=MemoryMembers(),
            insights=insights,
            network=MemoryNetwork(rows),
            counts=MemoryCounts(clock),
            replica="benchmark",
        )

    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)  # a line a request would be measured too
    rows, sessions, login = MemoryDatabase(clock), MemorySessions(clock), MemoryLogin(now_ms=clock)
    with tempfile.TemporaryDirectory(prefix="guildhall-bench-") as folder:
        (Path(folder) / "assets").mkdir()
        settings = WebSettings("http://guildhall.invalid", Path(folder), "http://discord.invalid")
        app = create_app(settings, open_ports)
        owner = Session(person(1), (SessionGuild(guild_id, "Guild", None, True, 0),), "csrf", now_ms)
        cookies = {session_cookie_name(settings): await sessions.create(owner)}
        async with (
            app.router.lifespan_context(app),
            httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app=app),
                base_url=settings.public_url,
                cookies=cookies,
                timeout=None,
            ) as browser,
        ):
            yield browser
