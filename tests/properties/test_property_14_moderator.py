"""Property 14: a moderator may do exactly what moderators may."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.permissions import may
from tests.properties.asking import MANY, Asking, asking, people

__all__ = ["asking"]


@MANY
@given(data=st.data())
async def test_a_moderator_may_do_what_moderators_may(asking: Asking, data: st.DataObject) -> None:
    """Look at what happens and see to it, on every route; settings are not theirs to see or to change."""
    route = data.draw(st.sampled_from(asking.guarded))
    assert route.permission is not None
    let_through = await asking.lets_through(data.draw(people("moderator")), route)
    assert let_through == may("moderator", route.permission)
    if route.permission.startswith(("update_", "delete_")) or route.permission == "manage_roles":
        assert not let_through
    if route.permission in {"view_violations", "manage_violations", "view_warnings", "manage_warnings"}:
        assert let_through
