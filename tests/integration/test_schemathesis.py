"""Every endpoint of the API's own description, asked sense and nonsense, in every role.

Against the whole system, databases included, with all of Schemathesis' checks: no answer may be a 5xx, nor
one that is not described; what the description allows is taken, and what it does not allow is refused. One
seed as a rule; ``API_SEEDS=3`` asks with three, each with other questions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from domain.time_zones import TIME_ZONES
from guildhall.testing import DemoProcess, Person, Sim
from serve_app.openapi import describe_api

ROLES = ("nobody", "outsider", "viewer", "moderator", "admin", "owner")
SEEDS = range(int(os.environ.get("API_SEEDS", "1")))
EXAMPLES = 4
"""Of sense and of nonsense each, for every endpoint, role and seed."""
GUILD_INDEX = 6
"""No other test looks at this guild."""

# What the description names by a format, because no pattern can say it.
schemathesis.openapi.format("time-zone", st.sampled_from(sorted(TIME_ZONES)))
visible = st.characters(categories=["L", "N", "P", "S"])
schemathesis.openapi.format("visible-text", st.text(visible, min_size=1, max_size=60))

# Logging out would end the session that all the others use; test_access does that.
api = schemathesis.openapi.from_dict(describe_api()).exclude(path_regex=r"^/api/auth/logout")
api.config.generation.update(with_security_parameters=False)  # who asks is not left to chance
OPERATIONS = {operation.label: operation for operation in (found.ok() for found in api.get_all_operations())}


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


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("label", OPERATIONS)
def test_no_answer_is_broken_or_undescribed(
    label: str, role: str, seed: int, askers: dict[str, Asker], http: requests.Session
) -> None:
    """Questions that make sense are about a guild that is there: else only its id would ever be looked at."""
    operation = OPERATIONS[label]
    asks_something = bool(list(operation.iter_parameters())) or bool(operation.body)
    for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if asks_something else [])):
        _ask(operation, mode, seed, askers[role], http)


def _ask(operation: Any, mode: GenerationMode, seed: int, asker: Asker, http: requests.Session) -> None:
    options: dict[str, Any] = {
        "headers": asker.headers,
        "cookies": asker.cookies,
        "allow_redirects": False,
        "timeout": 30,
    }

    @hypothesis.seed(seed)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        if mode is GenerationMode.POSITIVE and "guild_id" in case.path_parameters:
            case.path_parameters["guild_id"] = asker.guild_id
        response = case.call(base_url=asker.url, session=http, **options)
        case.validate_response(response, headers=asker.headers, transport_kwargs=options)

    with contextlib.suppress(Unsatisfiable):  # whatever is sent there makes sense
        ask()
