from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.postgres import to_datetime, to_ms


@given(st.integers(-(10**12), 10**13))
def test_a_time_comes_back_to_the_millisecond(ts_ms: int) -> None:
    """Float seconds would lose some."""
    assert to_ms(to_datetime(ts_ms)) == ts_ms
    assert to_datetime(ts_ms).utcoffset() is not None
