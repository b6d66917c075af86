from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.socket_limits import Allowance


def test_all_of_it_may_be_spent_at_once_and_comes_back_evenly() -> None:
    """And nothing more than all of it, however long one waited."""
    allowance, whole_at_s = Allowance(3, 30.0), 0.0
    for _ in range(3):
        spent = allowance.spend(whole_at_s, 1_000.0)
        assert spent is not None
        whole_at_s = spent
    assert allowance.spend(whole_at_s, 1_009.0) is None
    assert allowance.spend(whole_at_s, 1_010.0) is not None
    assert allowance.spend(whole_at_s, 9_999.0, 4) is None


@given(
    st.integers(1, 50),
    st.floats(1, 100),
    st.lists(st.tuples(st.floats(0, 10), st.integers(1, 10)), max_size=100),
)
def test_no_more_is_spent_than_there_is(amount: int, seconds: float, spends: list[tuple[float, int]]) -> None:
    """At any time since the beginning: at most all of it, and what came back since."""
    allowance, whole_at_s, now_s, spent = Allowance(amount, seconds), 0.0, 1_000.0, 0
    for after_s, cost in spends:
        now_s += after_s
        whole = allowance.spend(whole_at_s, now_s, cost)
        if whole is not None:
            whole_at_s = whole
            spent += cost
        assert spent <= amount + (now_s - 1_000.0) * amount / seconds + 1e-6


def test_what_was_not_used_can_be_given_back() -> None:
    """It is as if it had not been spent."""
    allowance = Allowance(100, 10.0)
    whole_at_s = allowance.spend(0.0, 50.0, 100)
    assert whole_at_s is not None
    assert allowance.spend(allowance.give_back(whole_at_s, 60), 50.0, 60) is not None
    assert allowance.spend(allowance.give_back(whole_at_s, 60), 50.0, 61) is None
