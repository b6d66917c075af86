"""Property 19: events reach only that guild's subscribers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.memory.samples import violation
from tests.properties.relays import network, open_socket, received
from tests.serve_app.scripted_host import member_of

guilds = st.integers(1, 5)
subscriptions = st.lists(st.tuples(st.integers(0, 1), st.sets(guilds)), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(subscriptions=subscriptions, told=st.lists(guilds, max_size=12), left=st.sets(st.integers(0, 7)))
async def test_events_reach_only_their_subscribers(
    subscriptions: list[tuple[int, set[int]]], told: list[int], left: set[int]
) -> None:
    """All of them, each once and in order, whatever relay they came by; those who left hear nothing more."""
    async with network(2) as net:
        sockets = [open_socket(net.hubs[relay], number) for number, (relay, _) in enumerate(subscriptions)]
        for socket, (relay, watched) in zip(sockets, subscriptions, strict=True):
            for guild_id in sorted(watched):
                net.hubs[relay].subscribe(socket, member_of(guild_id, socket.user_id), None)
        await net.settled()
        half = len(told) // 2
        events = [violation(guild_id, number) for number, guild_id in enumerate(told, 1)]
        await net.tell(*events[:half])
        for number in left & set(range(len(sockets))):
            relay, watched = subscriptions[number]
            for guild_id in watched:
                net.hubs[relay].unsubscribe(sockets[number], guild_id)
        await net.tell(*events[half:])
        for number, (socket, (_, watched)) in enumerate(zip(sockets, subscriptions, strict=True)):
            frames = [frame for frame in received(socket) if frame["op"] == "events"]
            heard = [
                (
                    int(frame["guild_id"]),
                    event["data"]["guild_id"],
                    event["data"]["message_id"],
                    event["offset"],
                )
                for frame in frames
                for event in frame["events"]
            ]
            until = half if number in left else len(events)
            for guild_id in watched:
                own = [event for event in events[:until] if event.guild_id == guild_id]
                assert [one for one in heard if one[0] == guild_id] == [
                    (guild_id, str(guild_id), str(event.message_id), offset)
                    for offset, event in enumerate(own, 1)
                ]
            assert {one[0] for one in heard} <= watched
