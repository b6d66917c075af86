"""Rate limits, faults, the ledger, the message store and compression."""

from __future__ import annotations

import zlib

import pytest
import zstandard

from discord_sim.compression import compressor
from discord_sim.faults import FaultBook, RestFault
from discord_sim.ledger import Ledger
from discord_sim.messages import Message, MessageStore
from discord_sim.rate_limits import Limit, RateLimiter, Verdict

FIVE_A_SECOND = Limit(5, 1.0)


def take(
    limiter: RateLimiter, now: float, *, route: str = "POST /x", major: str = "1", token: str = "t"
) -> Verdict:
    return limiter.take(token=token, route=route, major=major, limit=FIVE_A_SECOND, now=now)


def test_a_bucket_counts_down_and_resets() -> None:
    """Five in a second, the sixth waits for the window's end."""
    limiter = RateLimiter()
    assert [take(limiter, 0.1).remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    refused = take(limiter, 0.6)
    assert (refused.allowed, refused.scope) == (False, "user")
    assert refused.reset_after_s == pytest.approx(0.5)
    assert take(limiter, 1.1).remaining == 4


def test_buckets_are_apart_by_route_and_major_parameter() -> None:
    """One channel does not use up another's."""
    limiter = RateLimiter()
    for _ in range(5):
        take(limiter, 0.0)
    assert take(limiter, 0.0, major="2").allowed
    assert take(limiter, 0.0, route="GET /x").allowed
    assert not take(limiter, 0.0).allowed
    assert take(limiter, 0.0).bucket == take(limiter, 0.0, major="2").bucket
    assert take(limiter, 0.0).bucket != take(limiter, 0.0, route="GET /x").bucket


def test_fifty_a_second_are_the_limit_of_a_token_over_all_routes() -> None:
    """The global answer says so in scope and header."""
    limiter = RateLimiter()
    assert all(take(limiter, 0.0, major=str(number)).allowed for number in range(50))
    refused = take(limiter, 0.25, major="fresh")
    assert (refused.allowed, refused.scope) == (False, "global")
    assert refused.headers(0.0) == {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}
    assert take(limiter, 0.25, token="another").allowed
    assert take(limiter, 1.0, major="fresh").allowed


def test_headers_tell_what_a_client_needs() -> None:
    """Limit, remaining, when, and which bucket."""
    headers = take(RateLimiter(), 0.0).headers(1000.0)
    assert headers["X-RateLimit-Limit"] == "5"
    assert headers["X-RateLimit-Remaining"] == "4"
    assert headers["X-RateLimit-Reset"] == "1001.000"
    assert headers["X-RateLimit-Reset-After"] == "1.000"
    assert len(headers["X-RateLimit-Bucket"]) == 32


def test_faults_hit_their_path_as_often_as_they_were_armed() -> None:
    """Of each kind one at a time."""
    book = FaultBook()
    book.add(RestFault(kind="rate_limit", count=2, path="/channels"))
    book.add(RestFault(kind="slow", count=1))
    assert [fault.kind for fault in book.take("/users/@me")] == ["slow"]
    assert [fault.kind for fault in book.take("/channels/1/messages")] == ["rate_limit"]
    assert [fault.payload()["count"] for fault in book] == [1]
    assert book.clear() == 1
    assert book.take("/channels/1/messages") == []


def fill(ledger: Ledger, count: int) -> None:
    for number in range(count):
        ledger.add(message_id=number, guild_id=1, channel_id=2, author_id=3, label=None, ts=4)


def test_the_ledger_is_read_page_by_page() -> None:
    """`next` of one page is `since` of the following."""
    ledger = Ledger()
    fill(ledger, 5)
    first = ledger.since(0, 3)
    assert ([entry.seq for entry in first.entries], first.next, first.lost) == ([1, 2, 3], 3, 0)
    second = ledger.since(first.next, 3)
    assert ([entry.seq for entry in second.entries], second.next) == ([4, 5], 5)
    assert ledger.since(second.next, 3) == ([], 5, 0)


def test_the_ledger_says_what_it_lost() -> None:
    """A reader that was too slow learns how many entries it missed."""
    ledger = Ledger(capacity=3)
    fill(ledger, 5)
    page = ledger.since(1, 10)
    assert ([entry.seq for entry in page.entries], page.lost) == ([3, 4, 5], 1)


def test_messages_are_forgotten_oldest_first() -> None:
    """Both bounds hold, and deleting works once."""
    store = MessageStore(capacity=3, per_channel=2)
    for number in range(1, 5):
        store.add(Message(number, 1, 10, 5, str(number)))
    assert store.get(10, 1) is None
    assert [message.id for message in store.in_channel(10)] == [4, 3]
    assert store.remove(11, 4) is None
    assert store.remove(10, 4) is not None
    assert store.remove(10, 4) is None
    assert [message.id for message in store.in_channel(10)] == [3]


def test_compression_is_one_stream_flushed_after_every_payload() -> None:
    """Each payload can be read as soon as it is there."""
    zlib_stream, zstd_stream = compressor("zlib-stream"), compressor("zstd-stream")
    assert zlib_stream is not None
    assert zstd_stream is not None
    inflate, decode = zlib.decompressobj(), zstandard.ZstdDecompressor().decompressobj()
    for payload in (b'{"op":10}', b'{"op":11}' * 1000, b"{}"):
        deflated = zlib_stream(payload)
        assert deflated.endswith(b"\x00\x00\xff\xff")
        assert inflate.decompress(deflated) == payload
        assert decode.decompress(zstd_stream(payload)) == payload
    assert compressor(None) is None
    with pytest.raises(ValueError, match="brotli"):
        compressor("brotli")
