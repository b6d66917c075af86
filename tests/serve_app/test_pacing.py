"""When a relay writes, and what it joins into one write."""

from __future__ import annotations

import json

import pytest

from actors.fan_out import Item
from serve_app.frame import Events, joined
from serve_app.pacing import rest_s


@pytest.mark.parametrize(
    ("wrote_s", "events", "longest_s", "rest"),
    [
        (0.005, 0, 0.025, 0.0),  # nothing was written
        (0.005, 1, 0.025, 0.0005),  # 500 sockets and events that come alone: the next one hardly waits
        (0.006, 10, 0.025, 0.006),
        (0.010, 150, 0.025, 0.025),  # a storm: nobody waits for longer than was set
        (0.050, 1, 0.025, 0.005),  # 5,000 sockets
        (0.010, 150, 0.0, 0.0),
    ],
)
def test_a_relay_rests_the_longer_the_more_it_pays(
    wrote_s: float, events: int, longest_s: float, rest: float
) -> None:
    """By what a write costs, and by how many events shared it."""
    assert rest_s(wrote_s, events, longest_s) == pytest.approx(rest)


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
