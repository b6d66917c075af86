"""Every endpoint of the API's own description, asked sense and nonsense, in every role.

Against the whole system, databases included: no answer may be a 5xx, nor one that is not described.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from guildhall.testing import DemoProcess, Person, Sim
from serve_app.openapi import describe_api

ROLES = ("nobody", "outsider", "viewer", "moderator", "admin", "owner")
EXAMPLES = 6
GUILD_INDEX = 6
"""No other test looks at this guild."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

# Logging out would end the session that all the others use; test_access does that.
api = schemathesis.openapi.from_dict(describe_api()).exclude(path_regex=r"^/api/auth/logout")


class Asker(NamedTuple):
    """A logged-in session and the guild that it asks about."""

    url: str
    guild_id: str
    cookies: dict[str, str]
    headers: dict[str, str]


@pytest.fixture(scope="session")
def askers(stack: DemoProcess) -> dict[str, Asker]:
    """Log everybody in once."""
    return asyncio.run(_log_in(stack))


async def _log_in(stack: DemoProcess) -> dict[str, Asker]:
    askers: dict[str, Asker] = {}
    for role in ROLES:
        async with Person(stack.url) as person:
            guild = await Sim(stack.sim_url, person.http).guild(GUILD_INDEX)
            if role != "nobody":
                await person.log_in(role)
            cookies = {cookie.key: cookie.value for cookie in person.http.cookie_jar}
            askers[role] = Asker(stack.url, guild["id"], cookies, {"x-csrf-token": person.csrf_token})
    return askers


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@pytest.mark.parametrize("role", ROLES)
@api.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_answer_is_broken_or_undescribed(
    case: Any, role: str, askers: dict[str, Asker], http: requests.Session
) -> None:
    """Most questions are about a guild that is there: else only its id would ever be looked at."""
    asker = askers[role]
    if "guild_id" in case.path_parameters and random.Random(repr(case)).random() < 0.8:
        case.path_parameters["guild_id"] = asker.guild_id
    response = case.call(
        base_url=asker.url,
        session=http,
        headers=asker.headers,
        cookies=asker.cookies,
        allow_redirects=False,
        timeout=30,
    )
    case.validate_response(response, checks=CHECKS)
