"""OAuth2 over HTTP: the consent page, the token endpoint, revocation."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from aiohttp import web

from .names import PEOPLE
from .oauth import SCOPES, Grant, OAuth, OAuthError
from .oauth_page import CONTENT_SECURITY_POLICY, consent_page, refusal_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .rest import Rest
    from .simulation import Simulation

_KEPT = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)
_NO_STORE = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_MIN_CHALLENGE, _MAX_CHALLENGE = 43, 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """An authorization request that may be answered at its redirect URI."""

    redirect_uri: str
    state: str | None
    scopes: tuple[str, ...]
    challenge: str


class _SendBack(Exception):
    """A request refused in a way its sender is told about."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


class OAuthRoutes:
    """The handlers; the state is in `OAuth`."""

    def __init__(self, simulation: Simulation, oauth: OAuth, rest: Rest) -> None:
        self._simulation = simulation
        self._oauth = oauth
        self._rest = rest

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, with and without the API's prefix as Discord has them."""
        found: list[web.RouteDef] = []
        for prefix in ("", "/api", "/api/v10"):
            found += [
                web.get(f"{prefix}/oauth2/authorize", self.authorize),
                web.post(f"{prefix}/oauth2/authorize", self.authorize),
                web.post(f"{prefix}/oauth2/token", self.token),
                web.post(f"{prefix}/oauth2/token/revoke", self.revoke),
            ]
        return found

    async def authorize(self, request: web.Request) -> web.Response:
        """Show the consent page, or answer it."""
        form = await _form(request) if request.method == "POST" else dict(request.query)
        try:
            wish = self._wish(form)
        except OAuthError as error:
            page = refusal_page(code=error.error, problem=error.description)
            return _page(page, status=400)
        except _SendBack as back:
            return _redirect(back.location)
        if "cancel" in form:
            return _redirect(_back(wish.redirect_uri, wish.state, error="access_denied"))
        chosen = form.get("user")
        if chosen is None:
            return self._ask(wish, form)
        if chosen not in PEOPLE:
            problem = f"There is nobody called {chosen!r}. Choose one of {', '.join(PEOPLE)}."
            return _page(refusal_page(code="unknown_user", problem=problem), status=400)
        grant = Grant(user_id=self._simulation.world.people[chosen].id, scopes=wish.scopes)
        code = self._oauth.issue_code(
            grant, redirect_uri=wish.redirect_uri, challenge=wish.challenge, now=self._simulation.clock()
        )
        return _redirect(_back(wish.redirect_uri, wish.state, code=code))

    async def token(self, request: web.Request) -> web.Response:
        """Exchange a code or a refresh token."""
        if (faulty := await self._suffer(request, "POST /oauth2/token")) is not None:
            return faulty
        try:
            form = await _authenticated_form(request, self._oauth)
            answer = self._oauth.token(form, self._simulation.clock())
        except OAuthError as error:
            return web.json_response(error.payload(), status=error.status, headers=_NO_STORE)
        return web.json_response(answer, headers=_NO_STORE)

    async def revoke(self, request: web.Request) -> web.Response:
        """Revoke a token; a token nobody knows is fine."""
        if (faulty := await self._suffer(request, "POST /oauth2/token/revoke")) is not None:
            return faulty
        try:
            form = await _authenticated_form(request, self._oauth)
        except OAuthError as error:
            return web.json_response(error.payload(), status=error.status, headers=_NO_STORE)
        self._oauth.revoke(form.get("token", ""))
        return web.json_response({}, headers=_NO_STORE)

    async def _suffer(self, request: web.Request, route: str) -> web.Response | None:
        """Count a request, and let it run into what waits for it."""
        self._rest.calls[route] += 1
        return await self._rest.suffer(request, route)

    def _ask(self, wish: _Wish, form: Mapping[str, str]) -> web.Response:
        page = consent_page(
            app=self._simulation.world.bot.username,
            scopes=wish.scopes,
            target=urlsplit(wish.redirect_uri).netloc,
            query={name: form[name] for name in _KEPT if name in form},
        )
        return _page(page)

    def _wish(self, form: Mapping[str, str]) -> _Wish:
        """Check a request. Until the redirect URI is known to be good, nothing may be sent there."""
        client = self._oauth.client
        if form.get("client_id") != client.client_id:
            raise OAuthError("invalid_client", "The client_id is missing or belongs to no application here.")
        redirect_uri = form.get("redirect_uri", "")
        if not client.may_redirect_to(redirect_uri):
            raise OAuthError(
                "invalid_redirect_uri", "The redirect_uri is missing or not registered for this app."
            )
        state = form.get("state")

        def refuse(error: str, description: str) -> _SendBack:
            return _SendBack(_back(redirect_uri, state, error=error, error_description=description))

        if form.get("response_type") != "code":
            raise refuse("unsupported_response_type", "The response_type must be code.")
        scopes = tuple(dict.fromkeys(form.get("scope", "").split()))
        if not scopes or not SCOPES.issuperset(scopes):
            raise refuse("invalid_scope", "The requested scope is invalid, unknown, or malformed.")
        # Stricter than Discord, which lets applications do without: here nobody leaves it out unnoticed.
        challenge, method = form.get("code_challenge", ""), form.get("code_challenge_method", "plain")
        if method != "S256" or not _MIN_CHALLENGE <= len(challenge) <= _MAX_CHALLENGE:
            raise refuse("invalid_request", "PKCE is required: a code_challenge made with S256.")
        if form.get("prompt", "consent") not in ("consent", "none"):
            raise refuse("invalid_request", "The prompt must be consent or none.")
        return _Wish(redirect_uri=redirect_uri, state=state, scopes=scopes, challenge=challenge)


async def _form(request: web.Request) -> dict[str, str]:
    posted = await request.post()
    return {name: value for name, value in posted.items() if isinstance(value, str)}


async def _authenticated_form(request: web.Request, oauth: OAuth) -> dict[str, str]:
    """Return the form of a client that proved who it is, by HTTP basic or in the form itself."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise OAuthError("invalid_request", "The body must be application/x-www-form-urlencoded.")
    form = await _form(request)
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            name, _, secret = base64.b64decode(credentials, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise OAuthError("invalid_client", status=401) from None
        oauth.authenticate(unquote(name), unquote(secret))
    else:
        oauth.authenticate(form.get("client_id"), form.get("client_secret"))
    return form


def _back(redirect_uri: str, state: str | None, **fields: str) -> str:
    parts = urlsplit(redirect_uri)
    query = parse_qsl(parts.query, keep_blank_values=True) + list(fields.items())
    if state is not None:
        query.append(("state", state))
    return urlunsplit(parts._replace(query=urlencode(query)))


def _redirect(location: str) -> web.Response:
    return web.Response(status=303, headers=_NO_STORE | {"Location": location})


def _page(text: str, status: int = 200) -> web.Response:
    headers = _NO_STORE | {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)
