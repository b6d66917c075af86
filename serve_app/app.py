"""The HTTP side as one ASGI application. Start reading here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel
from starlette.middleware import Middleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from domain.errors import GuildhallError
from domain.replica_counts import ReplicaCounts
from serve_app import (
    audit_log,
    auth,
    cache_stats,
    config,
    insights,
    network,
    roles,
    rules,
    servers,
    violations,
    warnings,
)
from serve_app.access import Gate
from serve_app.api_document import complete
from serve_app.counting import CountingMiddleware
from serve_app.error_docs import EVERYWHERE
from serve_app.errors import install_error_handlers
from serve_app.inputs import InputMiddleware
from serve_app.metering import Meter
from serve_app.middleware import RequestMiddleware
from serve_app.next_run import NextRun
from serve_app.page import install_page
from serve_app.plain_route import HeadMiddleware, PlainRoute
from serve_app.ports import ApiPorts, WebSettings, session_cookie_name
from serve_app.whole_changes import DRAIN_S, ChangeMiddleware
from tasks import SupervisedTasks, ailing_here

_health = APIRouter(tags=["operations"], route_class=PlainRoute)


NetworkState = Literal["ok", "degraded", "unknown"]

T = TypeVar("T")


class Health(BaseModel):
    """Whether this replica can do its work, and which of its needs is not met."""

    status: str
    database: str
    sessions: str
    ailing: list[str]
    """Tasks of this replica that break whenever they begin, or hang. Serve is told, and replaces it."""
    network: NetworkState
    """Whether all actors are well. No matter of this replica: it answers by what is stored all the same."""
    away: list[str]
    """The names of all that does not answer, or is not well."""


LOOK_EVERY_S = 0.25
"""Nobody is refused a look at the health, but all who ask within so long share one."""

ANSWERS_WITHIN_S = 0.8
"""What takes longer is away. Who asks during one look waits for it and for the next: two seconds at most."""


@_health.get("/health", responses={503: {"model": Health}})
async def health(request: Request, response: Response) -> Health:
    """Ask everything that an answer needs; 503 when something is away."""
    look: NextRun[Health] = request.app.state.look
    found = await look()
    response.status_code = 200 if found.status == "ok" else 503
    return found


async def _look(ports: ApiPorts) -> Health:
    database, sessions, children, silent = await asyncio.gather(
        _answer(_well(ports.store.ping())),
        _answer(_well(ports.sessions.ping())),
        _answer(ports.supervision.read()),
        _answer(ports.network.silent()),
    )
    ailing = list(ailing_here())
    away = [name for name, well in (("database", database), ("sessions", sessions)) if not well]
    unwell = {child.name for child in children or () if child.state != "healthy"}
    unwell |= {"director"} if silent is None else set(silent)
    return Health(
        status="degraded" if away or ailing else "ok",
        database="ok" if database else "away",
        sessions="ok" if sessions else "away",
        ailing=ailing,
        network="degraded" if unwell else "unknown" if children is None else "ok",
        away=[*away, *sorted(unwell)],
    )


async def _well(ping: Awaitable[None]) -> bool:
    await ping
    return True


async def _answer(asking: Awaitable[T]) -> T | None:
    """Return an answer, or None when there is none in time."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            return await asking
    except (GuildhallError, TimeoutError):
        return None


class Pong(BaseModel):
    """A sign of life."""

    alive: bool = True


@_health.get("/api/ping")
async def ping() -> Pong:
    """Say that this replica answers, whatever else does."""
    return Pong()


class _Api(FastAPI):
    """Describes itself wholly."""

    session_cookie = ""

    def openapi(self) -> dict[str, Any]:
        """See the base class."""
        if self.openapi_schema is None:
            self.openapi_schema = complete(super().openapi(), self, self.session_cookie)
        return self.openapi_schema


def create_app(settings: WebSettings, open_ports: Callable[[], Awaitable[ApiPorts]]) -> FastAPI:
    """Build the application; it opens its ports when the server starts, and closes them when it ends."""
    changes = SupervisedTasks("changes")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        ports = await open_ports()
        app.state.ports = ports
        app.state.gate = gate = Gate(ports.roles, ports.audit, ports.monotonic_s)
        gate.start()
        meter = Meter(ports.replica, lambda: ReplicaCounts(ports.caches.counts()), ports.counts)
        app.state.meter = meter
        app.state.changes = changes
        app.state.look = NextRun(partial(_look, ports), LOOK_EVERY_S)
        meter.start()
        yield
        await changes.drain(DRAIN_S)
        await meter.stop()
        await gate.stop()
        await ports.close()

    app = _Api(
        title="Guildhall",
        version="1",
        summary="The live control plane of a Discord bot network",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(ProxyHeadersMiddleware, trusted_hosts=list(settings.trusted_proxies)),
            Middleware(RequestMiddleware, settings=settings),
            Middleware(CountingMiddleware),
            Middleware(InputMiddleware, max_body_bytes=settings.max_body_bytes),
            Middleware(ChangeMiddleware, changes=changes),
            Middleware(HeadMiddleware),
        ],
        responses=EVERYWHERE,
    )
    app.session_cookie = session_cookie_name(settings)
    install_error_handlers(app)
    # Asked for most first: every request is held against them in turn, by FastAPI twice and by Serve once.
    app.include_router(_health)
    app.include_router(insights.router)
    app.include_router(violations.router)
    app.include_router(servers.router)
    app.include_router(auth.router)
    app.include_router(config.router)
    app.include_router(rules.router)
    app.include_router(warnings.router)
    app.include_router(roles.router)
    app.include_router(audit_log.router)
    app.include_router(network.router)
    app.include_router(cache_stats.router)
    install_page(app, settings.static_dir)
    return app
