"""OAuth2 without HTTP: codes and tokens, the clock as an argument."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE_LIFE_S = 60.0
TOKEN_LIFE_S = 604_800
SCOPES = frozenset({"identify", "email", "guilds", "guilds.members.read", "openid", "connections"})
_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
_MAX_GRANTS = 10_000


class OAuthError(Exception):
    """A request refused, in the form of RFC 6749."""

    def __init__(self, error: str, description: str = "", status: int = 400) -> None:
        super().__init__(description or error)
        self.error = error
        self.description = description
        self.status = status

    def payload(self) -> dict[str, Any]:
        """Return the JSON body."""
        body = {"error": self.error}
        return body | {"error_description": self.description} if self.description else body


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An application that may ask people to log in."""

    client_id: str
    client_secret: str
    redirect_uris: tuple[str, ...] = ()

    def may_redirect_to(self, uri: str) -> bool:
        """Say whether a redirect URI is registered; any on this machine is."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or parts.fragment or not parts.hostname:
            return False
        return uri in self.redirect_uris or parts.hostname in _LOOPBACK_HOSTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a person allowed."""

    user_id: int
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    grant: Grant
    redirect_uri: str
    challenge: str
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    grant: Grant
    access_token: str
    refresh_token: str
    expires_at: float


@dataclass(slots=True)
class OAuth:
    """Authorization codes and tokens of one client."""

    client: Client
    token_life_s: int = TOKEN_LIFE_S
    _codes: dict[str, _Code] = field(default_factory=dict)
    _by_access: dict[str, _Pair] = field(default_factory=dict)
    _by_refresh: dict[str, _Pair] = field(default_factory=dict)
    # A code used twice was stolen: what came of its first use is revoked (RFC 6749 §4.1.2).
    _spent: dict[str, str] = field(default_factory=dict)

    def issue_code(self, grant: Grant, *, redirect_uri: str, challenge: str, now: float) -> str:
        """Return a code that may be exchanged once within a minute."""
        self._codes = {code: kept for code, kept in self._codes.items() if kept.expires_at > now}
        code = secrets.token_urlsafe(22)
        self._codes[code] = _Code(
            grant=grant, redirect_uri=redirect_uri, challenge=challenge, expires_at=now + CODE_LIFE_S
        )
        return code

    def authenticate(self, client_id: str | None, client_secret: str | None) -> None:
        """Check the client; raises OAuthError."""
        known = hmac.compare_digest((client_id or "").encode(), self.client.client_id.encode())
        proven = hmac.compare_digest((client_secret or "").encode(), self.client.client_secret.encode())
        if not (known and proven):
            raise OAuthError("invalid_client", status=401)

    def token(self, form: Mapping[str, str], now: float) -> dict[str, Any]:
        """Answer a token request of an authenticated client; raises OAuthError."""
        match form.get("grant_type"):
            case "authorization_code":
                return self._exchange(form, now)
            case "refresh_token":
                return self._refresh(form.get("refresh_token", ""), now)
            case _:
                raise OAuthError(
                    "unsupported_grant_type", "The grant type must be authorization_code or refresh_token."
                )

    def revoke(self, token: str) -> None:
        """End a token and, as Discord does, all others of the same person; an unknown one is no error."""
        pair = self._by_access.get(token) or self._by_refresh.get(token)
        if pair is not None:
            self.disown(pair.grant.user_id)

    def disown(self, user_id: int) -> int:
        """End all of a person's tokens, as if they removed the application; return how many pairs ended."""
        pairs = [pair for pair in self._by_refresh.values() if pair.grant.user_id == user_id]
        for pair in pairs:
            self._end(pair)
        return len(pairs)

    def grant_of(self, access_token: str, now: float) -> Grant | None:
        """Return what an access token stands for, or None if it is not valid (any more)."""
        pair = self._by_access.get(access_token)
        return pair.grant if pair is not None and pair.expires_at > now else None

    def _exchange(self, form: Mapping[str, str], now: float) -> dict[str, Any]:
        code = form.get("code", "")
        kept = self._codes.pop(code, None)
        if kept is None:
            self._end(self._by_access.get(self._spent.pop(code, "")))
        if kept is None or kept.expires_at <= now:
            raise OAuthError("invalid_grant", 'Invalid "code" in request.')
        if form.get("redirect_uri") != kept.redirect_uri:
            raise OAuthError("invalid_grant", 'Invalid "redirect_uri" in request.')
        if not _proves(form.get("code_verifier", ""), kept.challenge):
            raise OAuthError("invalid_grant", 'Invalid "code_verifier" in request.')
        answer = self._issue(kept.grant, now)
        self._spent[code] = answer["access_token"]
        return answer

    def _refresh(self, refresh_token: str, now: float) -> dict[str, Any]:
        pair = self._by_refresh.get(refresh_token)
        if pair is None:
            raise OAuthError("invalid_grant", 'Invalid "refresh_token" in request.')
        self._end(pair)
        return self._issue(pair.grant, now)

    def _issue(self, grant: Grant, now: float) -> dict[str, Any]:
        pair = _Pair(
            grant=grant,
            access_token=secrets.token_urlsafe(22),
            refresh_token=secrets.token_urlsafe(22),
            expires_at=now + self.token_life_s,
        )
        self._by_access[pair.access_token] = pair
        self._by_refresh[pair.refresh_token] = pair
        while len(self._by_refresh) > _MAX_GRANTS:
            self._end(next(iter(self._by_refresh.values())))
        while len(self._spent) > _MAX_GRANTS:
            self._spent.pop(next(iter(self._spent)))
        return {
            "token_type": "Bearer",
            "access_token": pair.access_token,
            "expires_in": self.token_life_s,
            "refresh_token": pair.refresh_token,
            "scope": " ".join(grant.scopes),
        }

    def _end(self, pair: _Pair | None) -> None:
        if pair is not None:
            self._by_access.pop(pair.access_token, None)
            self._by_refresh.pop(pair.refresh_token, None)


def _proves(verifier: str, challenge: str) -> bool:
    digest = hashlib.sha256(verifier.encode()).digest()
    expected = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return hmac.compare_digest(expected.encode(), challenge.encode())
