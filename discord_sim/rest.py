"""REST v10: authentication, faults, rate limits and errors around every handler."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from . import errors
from .errors import ApiError
from .rate_limits import Limit, RateLimiter

if TYPE_CHECKING:
    from .faults import FaultBook, RestFault
    from .oauth import OAuth
    from .simulation import Simulation

# discord.py takes a 429 without it for a ban by the proxy in front of Discord.
_VIA = {"Via": "1.1 discord-sim"}
_PREFIXES = ("/api/v10", "/api")
_MAJOR_PARAMETERS = ("channel_id", "guild_id")
_DEFAULT_LIMIT = Limit(50, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks: the bot, or a person an access token stands for."""

    user_id: int
    token: str
    is_bot: bool
    scopes: frozenset[str] = frozenset()

    def needs(self, scope: str) -> None:
        """Refuse a person who did not grant a scope."""
        if not self.is_bot and scope not in self.scopes:
            raise errors.missing_access()


Handler = Callable[[web.Request, Caller], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One route: its limit, and whether people may call it or only the bot."""

    method: str
    path: str
    handler: Handler
    limit: Limit = _DEFAULT_LIMIT
    people: bool = False
    anonymous: bool = False


class Rest:
    """Serves endpoints the way Discord's edge does."""

    def __init__(self, simulation: Simulation, oauth: OAuth, faults: FaultBook) -> None:
        self._simulation = simulation
        self._oauth = oauth
        self._faults = faults
        self._limits = RateLimiter()
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    def routes(self, endpoints: list[Endpoint]) -> list[web.RouteDef]:
        """Return the routes of the endpoints under every prefix, and answers for whatever is not there."""
        found = [
            web.route(endpoint.method, prefix + endpoint.path, self._serve(endpoint), name=None)
            for prefix in _PREFIXES
            for endpoint in endpoints
        ]
        return [*found, web.route("*", "/api/{rest:.*}", self._nothing_here)]

    def _serve(self, endpoint: Endpoint) -> Callable[[web.Request], Awaitable[web.Response]]:
        route = f"{endpoint.method} {endpoint.path}"

        async def serve(request: web.Request) -> web.Response:
            self.calls[route] += 1
            headers = dict(_VIA)
            try:
                caller = self._caller(request, endpoint)
                faulty = await self.suffer(request, route)
                if faulty is not None:
                    return faulty
                limited = self._limit(request, endpoint, route, caller, headers)
                if limited is not None:
                    return limited
                return _json(await endpoint.handler(request, caller), headers=headers)
            except ApiError as error:
                self.refused[str(error.status)] += 1
                return _json(error.payload(), status=error.status, headers=headers)

        return serve

    def _caller(self, request: web.Request, endpoint: Endpoint) -> Caller:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if endpoint.anonymous:
            return Caller(user_id=0, token=request.remote or "", is_bot=False)
        if scheme == "Bot" and self._simulation.check_token(token):
            return Caller(user_id=self._simulation.world.bot.id, token=token, is_bot=True)
        if scheme == "Bearer" and endpoint.people:
            grant = self._oauth.grant_of(token, self._simulation.clock())
            if grant is not None:
                return Caller(
                    user_id=grant.user_id, token=token, is_bot=False, scopes=frozenset(grant.scopes)
                )
        raise errors.unauthorized()

    async def suffer(self, request: web.Request, route: str) -> web.Response | None:
        """Let a request run into the faults that wait for it; return the answer if one of them gives it."""
        answer = None
        for fault in self._faults.take(_path_below_version(request.path)):
            match fault.kind:
                case "slow":
                    await asyncio.sleep(fault.delay_ms / 1000)
                case "server_error":
                    body = {"message": f"{fault.status}: Service Unavailable", "code": 0}
                    answer = _json(body, status=fault.status, headers=dict(_VIA))
                    self.refused[str(fault.status)] += 1
                case "rate_limit":
                    answer = self._faulty_limit(fault, route)
        return answer

    def _faulty_limit(self, fault: RestFault, route: str) -> web.Response:
        headers: dict[str, str] = {"X-RateLimit-Scope": fault.scope}
        if fault.scope == "global":
            headers["X-RateLimit-Global"] = "true"
        return self._too_many(fault.retry_after_s, fault.scope, headers, route)

    def _limit(
        self, request: web.Request, endpoint: Endpoint, route: str, caller: Caller, headers: dict[str, str]
    ) -> web.Response | None:
        major = "+".join(request.match_info[name] for name in _MAJOR_PARAMETERS if name in request.match_info)
        verdict = self._limits.take(
            token=caller.token, route=route, major=major, limit=endpoint.limit, now=self._simulation.clock()
        )
        headers |= verdict.headers(self._simulation.wall_clock())
        if verdict.allowed:
            return None
        return self._too_many(verdict.reset_after_s, verdict.scope, headers, route)

    def _too_many(
        self, retry_after_s: float, scope: str, headers: dict[str, str], route: str
    ) -> web.Response:
        self.refused["429"] += 1
        self.refused[f"429 {scope} {route}"] += 1
        body = {
            "message": "You are being rate limited.",
            "retry_after": round(retry_after_s, 3),
            "global": scope == "global",
        }
        retry_after = {"Retry-After": str(math.ceil(retry_after_s))}
        return _json(body, status=429, headers=_VIA | headers | retry_after)

    async def _nothing_here(self, request: web.Request) -> web.Response:
        self.calls[f"{request.method} (unknown)"] += 1
        return _json(errors.not_found().payload(), status=404, headers=dict(_VIA))


def _path_below_version(path: str) -> str:
    for prefix in _PREFIXES:
        if path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix)
    return path


def _json(body: Any, *, status: int = 200, headers: dict[str, str]) -> web.Response:
    if body is None:
        return web.Response(status=204, headers=headers)
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/json"
    )
