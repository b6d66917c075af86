"""Errors in the form Discord's API gives them."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request the API answers with {"message", "code"}."""

    def __init__(
        self, status: int, message: str, code: int = 0, *, errors: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.errors = errors

    def payload(self) -> dict[str, Any]:
        """Return the JSON body."""
        body: dict[str, Any] = {"message": self.message, "code": self.code}
        return body | {"errors": self.errors} if self.errors else body


def unauthorized() -> ApiError:
    """Return the answer to a missing or wrong token."""
    return ApiError(401, "401: Unauthorized")


def not_found() -> ApiError:
    """Return the answer for a path that is not there."""
    return ApiError(404, "404: Not Found")


def unknown_channel() -> ApiError:
    """Return code 10003."""
    return ApiError(404, "Unknown Channel", 10003)


def unknown_guild() -> ApiError:
    """Return code 10004."""
    return ApiError(404, "Unknown Guild", 10004)


def unknown_member() -> ApiError:
    """Return code 10007."""
    return ApiError(404, "Unknown Member", 10007)


def unknown_message() -> ApiError:
    """Return code 10008."""
    return ApiError(404, "Unknown Message", 10008)


def unknown_user() -> ApiError:
    """Return code 10013."""
    return ApiError(404, "Unknown User", 10013)


def missing_access() -> ApiError:
    """Return code 50001."""
    return ApiError(403, "Missing Access", 50001)


def empty_message() -> ApiError:
    """Return code 50006."""
    return ApiError(400, "Cannot send an empty message", 50006)


def too_old_for_bulk() -> ApiError:
    """Return code 50034."""
    return ApiError(400, "You can only bulk delete messages that are under 14 days old.", 50034)


def invalid_form(name: str, code: str, message: str) -> ApiError:
    """Return code 50035 for one field."""
    errors = {name: {"_errors": [{"code": code, "message": message}]}}
    return ApiError(400, "Invalid Form Body", 50035, errors=errors)
