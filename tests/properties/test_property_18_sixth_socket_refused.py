"""Property 18: the sixth socket is refused."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.protocol import MAX_SOCKETS_PER_USER, CloseCode
from serve_app.socket import Socket
from tests.properties.relays import close_code, network, open_socket, received
from tests.serve_app.scripted_host import member_of

RELAYS = 3
# Mostly one person on one guild, or nobody would ever come to the sixth.
steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "open", "open", "close"]),
        st.integers(0, RELAYS - 1),
        st.sampled_from([1, 1, 1, 2]),
        st.sampled_from([10, 10, 10, 11]),
    ),
    min_size=MAX_SOCKETS_PER_USER + 1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(steps=steps)
async def test_the_sixth_socket_is_refused(steps: list[tuple[str, int, int, int]]) -> None:
    """Five a person and guild, over all relays; the sixth closes with 4009, and one that goes makes room."""
    async with network(RELAYS) as net:
        watching: defaultdict[tuple[int, int], list[tuple[int, Socket]]] = defaultdict(list)
        for step, relay, user_id, guild_id in steps:
            mine = watching[guild_id, user_id]
            if step == "open":
                socket = open_socket(net.hubs[relay], user_id)
                net.hubs[relay].subscribe(socket, member_of(guild_id, socket.user_id), None)
                await net.settled()
                if len(mine) < MAX_SOCKETS_PER_USER:
                    assert close_code(socket) is None
                    assert [frame["op"] for frame in received(socket)] == ["subscribed"]
                    mine.append((relay, socket))
                else:
                    assert close_code(socket) == CloseCode.TOO_MANY_SOCKETS
                    assert received(socket) == []
            elif mine:
                came_by, socket = mine.pop(0)
                net.hubs[came_by].leave(socket)
                await net.settled()
            assert net.watchers() == {key: len(found) for key, found in watching.items() if found}
            assert all(close_code(s) is None for found in watching.values() for _, s in found)
