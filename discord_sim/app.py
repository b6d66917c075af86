"""The server: puts the pieces together, listens, and stops."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aiohttp import web

from .control import Control
from .endpoints import Endpoints
from .faults import FaultBook
from .gateway import Gateway
from .gateway_session import GatewayOptions
from .oauth import Client, OAuth
from .oauth_routes import OAuthRoutes
from .protocol import CloseCode
from .rest import Rest
from .simulation import Simulation
from .world import DEFAULT_CLIENT_ID, build_world

if TYPE_CHECKING:
    from types import TracebackType

_log = logging.getLogger(__name__)
_TRAFFIC_TICK_S = 0.02
_SHUTDOWN_S = 0.5
_GOODBYE_S = 0.1
"""Who asked for an outage still gets the answer."""
_TRY_AGAIN_S = 0.2
_MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a local Discord is set up. Port 0 takes a free one."""

    host: str = "127.0.0.1"
    port: int = 0
    guilds: int = 200
    rate: float = 0.0
    offence_share: float | None = None
    seed: int = 1
    token: str = "demo-bot-token"  # noqa: S105 - everybody may know it
    client_id: int = DEFAULT_CLIENT_ID
    client_secret: str = "demo-client-secret"  # noqa: S105 - likewise
    app_name: str = "Guildhall"
    redirect_uris: tuple[str, ...] = ()
    gateway: GatewayOptions = field(default_factory=GatewayOptions)


class DiscordSim:
    """A local Discord that runs in this event loop, from `start` to `stop`; also an async context manager."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        world = build_world(
            seed=self.settings.seed,
            guilds=self.settings.guilds,
            client_id=self.settings.client_id,
            bot_name=self.settings.app_name,
        )
        self.simulation = Simulation(
            world,
            token=self.settings.token,
            clock=time.monotonic,
            wall_clock=time.time,
            seed=self.settings.seed,
            rate=self.settings.rate,
            gateway=self.settings.gateway,
        )
        if self.settings.offence_share is not None:
            self.simulation.traffic.offence_share = self.settings.offence_share
        self.url = ""
        self._faults = FaultBook()
        self._gateway = Gateway(self.simulation, self._faults)
        self._tasks: list[asyncio.Task[None]] = []
        self._outage: asyncio.Task[None] | None = None
        self._site: web.TCPSite | None = None
        self._runner = web.AppRunner(
            self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_S, handle_signals=False
        )

    @property
    def gateway_url(self) -> str:
        """Where the gateway listens."""
        return f"ws{self.url.removeprefix('http')}/gateway"

    async def start(self) -> None:
        """Listen; raises OSError if the port is taken."""
        await self._runner.setup()
        try:
            await self._listen(self.settings.port)
        except OSError:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self.simulation.gateway_url = self.gateway_url
        # Building the world took a while: people start to talk now.
        self.simulation.traffic.set_rate(self.settings.rate, self.simulation.wall_clock())
        self._tasks = [asyncio.create_task(self._talk()), asyncio.create_task(self._gateway.watch())]

    async def stop(self) -> None:
        """Close every gateway connection so that clients keep their sessions, and stop listening."""
        if self._outage is not None:
            self._tasks.append(self._outage)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()
        self._gateway.shut_down()
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _app(self) -> web.Application:
        settings = self.settings
        client = Client(
            client_id=str(settings.client_id),
            client_secret=settings.client_secret,
            redirect_uris=settings.redirect_uris,
        )
        oauth = OAuth(client)
        rest = Rest(self.simulation, oauth, self._faults)
        app = web.Application(client_max_size=_MAX_BODY)
        app.add_routes(OAuthRoutes(self.simulation, oauth, rest).routes())
        app.add_routes(Control(self.simulation, self._faults, rest, oauth, self._go_away).routes())
        for path in ("/gateway", "/gateway/"):
            app.router.add_get(path, self._gateway.handle)
        app.add_routes(rest.routes(Endpoints(self.simulation).all()))
        return app

    async def _listen(self, port: int) -> None:
        site = web.TCPSite(self._runner, self.settings.host, port)
        await site.start()
        self._site = site

    def _go_away(self, away_s: float, *, keeps_sessions: bool) -> bool:
        """Begin an outage; False if there is one."""
        if self._outage is not None and not self._outage.done():
            return False
        self._outage = asyncio.create_task(self._be_away(away_s, keeps_sessions=keeps_sessions))
        return True

    async def _be_away(self, away_s: float, *, keeps_sessions: bool) -> None:
        """Cut every connection and refuse new ones for a while. People go on talking meanwhile."""
        await asyncio.sleep(_GOODBYE_S)
        port = int(self._runner.addresses[0][1])
        if self._site is not None:
            await self._site.stop()
            self._site = None
        core = self.simulation.gateway
        for connection in tuple(core.connections):
            connection.end(CloseCode.ABNORMAL, abort=True)
        for open_one in tuple(self._runner.server.connections) if self._runner.server else ():
            if open_one.transport is not None:
                open_one.transport.abort()
        await asyncio.sleep(away_s)
        if not keeps_sessions:
            core.sessions.clear()
        while self._site is None:
            try:
                await self._listen(port)
            except OSError as error:  # somebody's outgoing connection has the port for a moment
                _log.warning("The local Discord cannot listen again yet: %s", error)
                await asyncio.sleep(_TRY_AGAIN_S)

    async def _talk(self) -> None:
        while True:
            await asyncio.sleep(_TRAFFIC_TICK_S)
            try:
                self.simulation.run_traffic()
            except Exception:  # noqa: BLE001 - a bug in the traffic must not silence the gateway
                _log.exception("The traffic stumbled; it goes on.")
