"""Relays and hosts die under many watchers, and each ends with the database's list."""

from __future__ import annotations

import pytest

from benchmarks.reconnect import run


@pytest.mark.timeout(400)
async def test_watchers_come_back_and_miss_nothing() -> None:
    """A relay and a host are killed while violations happen; what was missed is replayed or read anew."""
    result = await run(clients=40, kills=2, pause_s=4.0, rate=5.0)

    figures = result.figures
    assert figures["relay_kills"] == figures["host_kills"] == 1, figures
    assert figures["reconnects"] > 0, figures
    assert figures["haproxy_reloads"] > 0, figures
    assert figures["violations_posted"] > 20, figures
    wrong = ("posted_not_stored", "missing", "doubled", "stored_twice", "not_in_the_database", "out_of_order")
    assert not any(figures[name] for name in wrong), figures
    assert figures["clients_live"] == 40, figures
