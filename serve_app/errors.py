"""Every refusal in one form: a sentence for a person, a code for a program, the request's id."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from domain.errors import (
    DiscordOwnerStays,
    LastOwner,
    NoSuchRole,
    QueryTooSlow,
    RolesUnavailable,
    SessionsUnavailable,
    StoreUnavailable,
    TooManyMappings,
    VersionConflict,
)
from domain.guild_settings import MAX_RULES, NoSuchRule, TooManyRules
from domain.permissions import Permission
from domain.roles import MAX_MAPPINGS
from serve_app.allowed import allowed_methods

NOT_FOUND, NOT_ALLOWED = 404, 405


class ErrorBody(BaseModel):
    """What every answer with a status of 400 or more carries."""

    error: str
    error_code: str
    details: Any = None
    request_id: str


class ApiError(Exception):
    """A refusal that a route decided on."""

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        details: Any = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Take the HTTP status, a snake_case code and a sentence for a person."""
        super().__init__(message)
        self.status, self.error_code, self.details = status, error_code, details
        self.headers = headers or {}


def no_session() -> ApiError:
    """Return the refusal of somebody who is not logged in."""
    return ApiError(401, "no_session", "Log in to see this.")


def missing_permission(permission: Permission) -> ApiError:
    """Return the refusal of somebody who may not, naming what was missing."""
    return ApiError(403, "missing_permission", "You may not do this here.", {"permission": permission})


class _Told(NamedTuple):
    """How an error of ours is told to whoever asked. Always in these words: its own may carry a traceback."""

    status: int
    error_code: str
    message: str
    retry_after_s: int | None = None


_TOLD: dict[type, _Told] = {
    QueryTooSlow: _Told(
        504, "query_too_slow", "This takes too long right now. Ask for less, or try again in a moment."
    ),
    StoreUnavailable: _Told(
        503, "database_unavailable", "The database is away. Try again in a moment.", retry_after_s=2
    ),
    SessionsUnavailable: _Told(
        503, "sessions_unavailable", "Logins cannot be checked. Try again in a moment."
    ),
    RolesUnavailable: _Told(
        503, "roles_unavailable", "Roles cannot be checked. Try again in a moment.", retry_after_s=2
    ),
    DiscordOwnerStays: _Told(
        409,
        "discord_owner",
        "This person owns the server on Discord, and is owner here for as long as that is so.",
    ),
    LastOwner: _Told(
        409, "last_owner", "The server would have no owner then. Make somebody else owner first."
    ),
    NoSuchRole: _Told(404, "no_such_role", "There is no such role to take away."),
    TooManyMappings: _Told(409, "too_many_mappings", f"A server can map {MAX_MAPPINGS} roles of Discord."),
    NoSuchRule: _Told(404, "no_such_rule", "The server has no rule of that name."),
    TooManyRules: _Told(409, "too_many_rules", f"A server can have {MAX_RULES} rules."),
}


def install_error_handlers(app: FastAPI) -> None:
    """Make the app answer every failure in the one form, and tell nothing internal."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> JSONResponse:
        return error_answer(request.state.request_id, error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        details = [
            {"where": ".".join(str(part) for part in problem["loc"]), "problem": problem["msg"]}
            for problem in error.errors()
        ]
        return _answer(request, 422, "invalid_request", "Something in the request is not valid.", details)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        path = request.url.path
        if error.status_code == NOT_ALLOWED and (allowed := allowed_methods(app, path)):
            answer = _answer(request, NOT_ALLOWED, "method_not_allowed", "This cannot be done here.")
            answer.headers["allow"] = allowed
            return answer
        if error.status_code in {NOT_FOUND, NOT_ALLOWED}:
            return _answer(request, NOT_FOUND, "not_found", "There is nothing here.")
        answer = _answer(request, error.status_code, "http_error", str(error.detail))
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(VersionConflict)
    async def changed_meanwhile(request: Request, error: VersionConflict) -> JSONResponse:
        message = "Somebody else changed this meanwhile. Load it again, and make your change there."
        return _answer(request, 409, "version_conflict", message, {"version": error.current_version})

    async def troubled(request: Request, error: Exception) -> JSONResponse:
        told = next(told for kind in type(error).__mro__ if (told := _TOLD.get(kind)))
        answer = _answer(request, told.status, told.error_code, told.message)
        if told.retry_after_s is not None:
            answer.headers["Retry-After"] = str(told.retry_after_s)
        return answer

    for kind in _TOLD:
        app.add_exception_handler(kind, troubled)


def error_answer(request_id: str, error: ApiError) -> JSONResponse:
    """Return the answer that a refusal is."""
    answer = _error(request_id, error.status, error.error_code, str(error), error.details)
    answer.headers.update(error.headers)
    return answer


def internal_error(request_id: str) -> JSONResponse:
    """Return the answer to a request that broke; what broke is in the log, and nothing of it goes out."""
    return _error(request_id, 500, "internal_error", "Something broke on our side. It has been noted.")


def _answer(
    request: Request, status: int, error_code: str, message: str, details: Any = None
) -> JSONResponse:
    return _error(request.state.request_id, status, error_code, message, details)


def _error(request_id: str, status: int, error_code: str, message: str, details: Any = None) -> JSONResponse:
    body = ErrorBody(error=message, error_code=error_code, details=details, request_id=request_id)
    return JSONResponse(body.model_dump(mode="json"), status)
