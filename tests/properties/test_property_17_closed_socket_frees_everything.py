"""Property 17: a closed socket frees everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.protocol import MAX_SOCKETS_PER_USER
from tests.properties.relays import close_code, network, open_socket
from tests.serve_app.scripted_host import member_of

guilds = st.integers(1, 4)
sockets = st.lists(
    st.tuples(st.integers(1, 3), st.sets(guilds, min_size=1), st.booleans()), min_size=1, max_size=8
)


@settings(max_examples=100, deadline=None)
@given(sockets=sockets, answered=st.booleans())
async def test_a_closed_socket_frees_everything(
    sockets: list[tuple[int, set[int], bool]], answered: bool
) -> None:
    """Wherever it watched, whether it was answered yet, and whether it left its guilds first."""
    async with network() as net:
        [hub] = net.hubs
        opened = []
        for user_id, watched, politely in sockets:
            socket = open_socket(hub, user_id)
            opened.append((socket, watched, politely))
            for guild_id in watched:
                hub.subscribe(socket, member_of(guild_id, socket.user_id), None)
        if answered:
            await net.settled()
            assert net.watchers()
        for socket, watched, politely in opened:
            for guild_id in watched if politely else ():
                hub.unsubscribe(socket, guild_id)
            hub.leave(socket)
        await net.settled()
        assert not net.watchers()
        assert not hub._by_guild
        assert not hub._by_socket
        user_id, watched, _ = sockets[0]
        for guild_id in watched:
            again = [open_socket(hub, user_id) for _ in range(MAX_SOCKETS_PER_USER)]
            for socket in again:
                hub.subscribe(socket, member_of(guild_id, socket.user_id), None)
            await net.settled()
            assert [close_code(socket) for socket in again] == [None] * MAX_SOCKETS_PER_USER


@settings(max_examples=100, deadline=None)
@given(sockets=sockets)
async def test_a_relay_that_goes_frees_all_its_sockets(sockets: list[tuple[int, set[int], bool]]) -> None:
    """At the hosts, and only its own."""
    async with network(2) as net:
        going, staying = net.hubs
        for user_id, watched, stays in sockets:
            hub = staying if stays else going
            socket = open_socket(hub, user_id)
            for guild_id in watched:
                hub.subscribe(socket, member_of(guild_id, socket.user_id), None)
        await net.settled()
        kept = sum(len(subscriptions) for subscriptions in staying._by_socket.values())
        await going.stop()
        await net.settled()
        assert net.watchers().total() == kept
