"""Property 13: an owner may do everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.properties.asking import BODIES, MANY, Asking, asking, people

__all__ = ["asking"]


@MANY
@given(data=st.data())
async def test_an_owner_may_do_everything(asking: Asking, data: st.DataObject) -> None:
    """On every route, whether Discord made them owner, another owner, or a role that they have on Discord."""
    route = data.draw(st.sampled_from(asking.guarded))
    assert await asking.lets_through(data.draw(people("owner")), route)


@MANY
@given(data=st.data())
async def test_what_an_owner_changes_is_changed(asking: Asking, data: st.DataObject) -> None:
    """Roles and what Discord's roles stand for: made, noted, announced."""
    route = data.draw(st.sampled_from([one for one in asking.guarded if one.path in BODIES]))
    someone = data.draw(people("owner"))
    guild_id, before = asking.fresh(), asking.changes()
    answer = await asking.ask(someone, route, guild_id=guild_id)
    if route.method == "DELETE":
        assert (answer.status_code, answer.json()["error_code"]) == (404, "no_such_role")
        assert asking.changes() == before
    else:
        assert (answer.status_code, answer.json()["role"]) == (200, "viewer")
        assert asking.changes() == before + 2
        assert asking.web.database.audit[-1].entry.guild_id == guild_id
