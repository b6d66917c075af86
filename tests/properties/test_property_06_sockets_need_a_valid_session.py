"""Property 6: sockets need a valid session."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.protocol import CloseCode
from domain.sessions import SESSION_MS
from tests.serve_app.scripted_host import GUILD
from tests.serve_app.test_relay import RelayUnderTest
from tests.serve_app.web import PLAIN


class Attempt(NamedTuple):
    """How somebody tries to get in."""

    session: Literal["good", "ended", "expired", "everywhere", "invented", "none"]
    name: bytes
    """Of the cookie."""
    invented: str
    origin: bytes | None
    ends_later: bool
    """Whether the session ends when the socket is open."""


attempts = st.builds(
    Attempt,
    session=st.sampled_from(["good", "good", "ended", "expired", "everywhere", "invented", "none"]),
    name=st.sampled_from([b"guildhall", b"guildhall", b"guildhall", b"__Host-guildhall", b"Guildhall", b"x"]),
    invented=st.text(st.characters(codec="ascii", exclude_characters=";\x00\r\n"), max_size=80),
    origin=st.sampled_from([None, PLAIN.encode(), PLAIN.encode(), b"https://evil.example", b"null", b""]),
    ends_later=st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(attempt=attempts)
async def test_a_socket_needs_a_valid_session(attempt: Attempt) -> None:
    """From our own page, and for as long as the session lasts; nobody else is told or told of anything."""
    relay = await RelayUnderTest().start()
    try:
        token = await relay.token(GUILD)
        if attempt.session == "ended":
            await relay.sessions.end(token)
        elif attempt.session == "expired":
            relay.clock.advance(SESSION_MS)
        elif attempt.session == "everywhere":
            await relay.sessions.end_all(1)
        cookie = {"invented": attempt.invented, "none": ""}.get(attempt.session, token)
        headers = [(b"cookie", attempt.name + b"=" + cookie.encode())] if attempt.session != "none" else []
        if attempt.origin is not None:
            headers.append((b"origin", attempt.origin))
        relay.host.at_once = lambda call: call.answer(0)
        connection = relay.connect(*headers)
        connection.subscribe()

        if attempt.origin not in (None, PLAIN.encode()):
            await connection.task
            assert [message["type"] for message in connection.sent] == ["websocket.close"]
        elif attempt.session != "good" or attempt.name != b"guildhall":
            assert (await connection.end())[0] == CloseCode.SESSION_ENDED
            assert connection.frames == []
        else:
            assert (await connection.frame(1))["op"] == "subscribed"
            if attempt.ends_later:
                await relay.sessions.end(token)
                assert (await connection.end())[0] == CloseCode.SESSION_ENDED
            else:
                connection.leave()
        await relay.is_free()
        await relay.stop()
    finally:
        await relay.end()
