"""When a relay takes more: at once after a short write, after a rest behind a long one."""

from __future__ import annotations

import json
import random

import pytest

from actors.fan_out import FanOut, Item
from serve_app.frame import Events, joined
from serve_app.pacing import Pace, paced, rest_s
from tests.simulation.virtual_loop import VirtualLoop


@pytest.mark.parametrize(
    ("wrote_s", "longest_s", "rest"),
    [
        (0.0, 0.025, 0.0),  # nothing was written: what comes next goes at once
        (0.004, 0.025, 0.002),  # a third of the time is for everything else
        (0.080, 0.025, 0.025),  # thousands of sockets: nobody waits longer than was set
        (0.080, 0.0, 0.0),
    ],
)
def test_a_relay_rests_for_half_as_long_as_it_wrote(wrote_s: float, longest_s: float, rest: float) -> None:
    """But not longer than was set."""
    assert rest_s(wrote_s, longest_s) == rest


def test_what_comes_while_a_relay_rests_shares_its_next_list() -> None:
    """An event that comes alone leaves at once; in a storm each rest makes one list of it."""
    loop = VirtualLoop(random.Random(1))
    fan_out: FanOut[int] = FanOut()
    wrote_s = 0.0
    pace = Pace(0.025, lambda: loop.time() + wrote_s)

    async def storm() -> list[tuple[float, int]]:
        nonlocal wrote_s
        taken: list[tuple[float, int]] = []
        for number in range(20):  # one a millisecond, from 100 ms on
            loop.call_later(0.1 + number / 1000, fan_out.send, "relay", [number])
        async for items in paced(fan_out.stream("relay"), pace):
            taken.append((round(loop.time(), 3), len(items)))
            wrote_s += 0.0074 if items else 0.0
            if sum(count for _, count in taken) == 20:
                break
        return taken

    taken = loop.run_until_complete(storm())
    loop.close()
    assert taken[:2] == [(0.0, 0), (0.1, 1)]
    assert [count for _, count in taken[2:]] == [3, 4, 4, 3, 4, 1]


@pytest.mark.parametrize("shared", [True, False])
def test_events_share_a_message_unless_they_are_not_to(shared: bool) -> None:
    """What came together is one write either way; who has some of it already gets the rest."""
    items = [Item(1, 7, 9, [b'{"offset":8}', b'{"offset":9}']), Item(1, 7, 20, [b'{"offset":20}'])]
    [events] = joined(items, shared=shared)
    assert _offsets(events) == ([[8, 9, 20]] if shared else [[8], [9], [20]])
    rest = events.after(8)
    assert _offsets(rest) == ([[9, 20]] if shared else [[9], [20]])
    assert (events.first, rest.first, rest.reached) == (8, 9, (7, 20))


def _offsets(events: Events) -> list[list[int]]:
    return [[event["offset"] for event in json.loads(text)["events"]] for text in events.frame.texts]
