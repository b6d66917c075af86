"""How refusals stand in the API's description: what each status means, with an example."""

from __future__ import annotations

from typing import Any

from serve_app.errors import ErrorBody


def _described(meaning: str, code: str, sentence: str, details: Any = None) -> dict[str, Any]:
    example = ErrorBody(error=sentence, error_code=code, details=details, request_id="5f0c2a9be1d34c77")
    return {
        "model": ErrorBody,
        "description": meaning,
        "content": {"application/json": {"example": example.model_dump(mode="json")}},
    }


EVERYWHERE: dict[int | str, dict[str, Any]] = {
    400: _described(
        "The request makes no sense, or has a body where there is none to read.",
        "body_not_allowed",
        "Such a request has no body.",
    ),
    401: _described("Nobody is logged in.", "no_session", "Log in to see this."),
    403: _described(
        "The person may not do this, or the request did not come from the dashboard.",
        "missing_permission",
        "You may not do this here.",
        {"permission": "view_violations"},
    ),
    404: _described("What was asked for is not there.", "not_found", "There is nothing here."),
    405: _described(
        "This cannot be done there; Allow says what can.",
        "method_not_allowed",
        "This cannot be done here.",
    ),
    408: _described(
        "The body came too slowly.", "body_too_slow", "The body did not arrive in time. Try again."
    ),
    409: _described(
        "What is there now does not allow the change.",
        "version_conflict",
        "Somebody else changed this meanwhile. Load it again, and make your change there.",
        {"version": 4},
    ),
    413: _described("The body is too large.", "body_too_large", "A body may have 64 KiB at most."),
    414: _described(
        "The address is too long.", "address_too_long", "An address may have 4096 bytes at most."
    ),
    415: _described(
        "The body is no JSON.",
        "unsupported_media_type",
        "Send JSON in UTF-8, with `Content-Type: application/json`.",
    ),
    422: _described(
        "Something in the request is not valid; the details say where.",
        "invalid_request",
        "Something in the request is not valid.",
        [{"where": "query.page", "problem": "Input should be greater than or equal to 1"}],
    ),
    429: _described(
        "Too many requests; Retry-After says for how many seconds to wait.",
        "too_many_requests",
        "That was too much at once. Try again in a moment.",
    ),
    431: _described(
        "The headers are too large.", "headers_too_large", "The headers may have 8192 bytes at most."
    ),
    502: _described(
        "Whoever was asked died meanwhile. A change may have been made or not.",
        "unavailable",
        "The answer broke off. Try again in a moment.",
    ),
    503: _described(
        "Something that the answer needs is away.",
        "database_unavailable",
        "The database is away. Try again in a moment.",
    ),
    504: _described(
        "The question takes the database too long.",
        "query_too_slow",
        "This takes the database too long. Ask about a shorter time.",
    ),
}
"""What any endpoint may answer instead of what it is asked for, or the front door in its place."""
