"""Property 15: a viewer looks, and changes nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.permissions import may
from tests.properties.asking import MANY, Asking, asking, people

__all__ = ["asking"]


@MANY
@given(data=st.data())
async def test_a_viewer_looks_and_changes_nothing(asking: Asking, data: st.DataObject) -> None:
    """On every route: what only shows something is theirs unless it is about roles, and nothing else is."""
    route = data.draw(st.sampled_from(asking.guarded))
    assert route.permission is not None
    before = asking.changes()
    let_through = await asking.lets_through(data.draw(people("viewer")), route)
    assert let_through == may("viewer", route.permission) == route.permission.startswith("view_")
    if route.method != "GET":
        assert not let_through
    assert asking.changes() == before
