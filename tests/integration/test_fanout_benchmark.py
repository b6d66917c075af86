"""The benchmark of the fan-out runs, and every socket had every event once. How fast it was, no test says."""

from __future__ import annotations

import pytest

from benchmarks.fanout.run import Plan, run


@pytest.mark.timeout(300)
async def test_every_socket_has_every_event_once() -> None:
    """It ends well only if no socket lacked an event, had one twice or out of order, or was closed."""
    result = await run(
        Plan(sockets=10, seconds=0.5, rounds=1, paced_seconds=1.0, many=20, slow=0, without_sharing=False)
    )

    figures = result.figures
    assert result.name == "fanout"
    assert figures["shared_frames_per_s"] > 0
    assert figures["paced_100_per_s_10_sockets_deliveries"] == 100 * 10
    assert figures["paced_4_per_s_20_sockets_deliveries"] == 4 * 20
    for peer in [name for name in ("nchan", "ws") if figures.get(name) != "not installed"][:1]:
        for paced in ("100_per_s_10_sockets", "4_per_s_20_sockets"):
            assert figures[f"beside_{peer}_{paced}_ms_p99"].keys() == {"guildhall", peer}
    if figures.get("nchan") == "not installed":
        assert result.ratio is None
    else:
        assert result.ratio is not None
        assert result.baseline["nchan_per_s"] > 0
