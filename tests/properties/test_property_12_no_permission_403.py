"""Property 12: without the permission the answer is 403."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.permissions import ROLES, may
from tests.properties.asking import MANY, Asking, asking, people

__all__ = ["asking"]


@MANY
@given(data=st.data())
async def test_without_the_permission_the_answer_is_403(asking: Asking, data: st.DataObject) -> None:
    """Whoever asks whatever, by whichever way they have a role or none; and nothing is changed."""
    route = data.draw(st.sampled_from(asking.guarded))
    assert route.permission is not None
    without = [role for role in (*ROLES, None) if not may(role, route.permission)]
    someone = data.draw(people(*without))
    assert not await asking.lets_through(someone, route)


@MANY
@given(data=st.data())
async def test_without_a_session_the_answer_is_401(asking: Asking, data: st.DataObject) -> None:
    """Whatever stands in the cookie."""
    route = data.draw(st.sampled_from(asking.guarded))
    cookie = data.draw(st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=80))
    async with asking.web.new_browser(cookie) as browser:
        answer = await browser.request(route.method, route.url)
    assert (answer.status_code, answer.json()["error_code"]) == (401, "no_session")


@pytest.mark.parametrize("role", ROLES)
@MANY
@given(data=st.data())
async def test_a_role_elsewhere_is_none_here(asking: Asking, role: str, data: st.DataObject) -> None:
    """Whatever somebody is in one server, in another they are what they are there."""
    route = data.draw(st.sampled_from(asking.guarded))
    someone = data.draw(people(role))
    here, there, user_id = (asking.fresh() for _ in range(3))
    await asking.ask(someone, route, guild_id=there, user_id=user_id)
    nobody = data.draw(people(None))
    answer = await asking.ask(nobody, route, guild_id=here, user_id=user_id)
    assert answer.status_code == 403
