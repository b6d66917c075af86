"""How soon a relay takes more from a host: at once, unless it has just had much to write.

A host keeps what happens meanwhile, and it shares frames. So nothing waits for a relay that keeps up, and one
that is busy writes longer frames instead of more of them: each costs a write to every socket, here and in all
that stands between here and a browser.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import NamedTuple, TypeVar

T = TypeVar("T")

REST_PER_WRITE = 0.5
"""A relay writes for two thirds of its time at most, while its rests are not cut short."""


class Pace(NamedTuple):
    """How a relay paces itself."""

    longest_rest_s: float = 0.025
    """With 0 it never rests, and no two events share a frame."""
    now_s: Callable[[], float] = time.monotonic


def rest_s(wrote_s: float, longest_s: float) -> float:
    """Return how long to rest after so long a write to all sockets."""
    return min(wrote_s * REST_PER_WRITE, longest_s)


async def paced(lists: AsyncGenerator[list[T], None], pace: Pace) -> AsyncIterator[list[T]]:
    """Yield what a stream yields; rest after what took long to write.

    Whoever iterates has handed a list to its sockets when it asks for the next.
    """
    async with aclosing(lists):  # also when cancelled in a rest: the host is to know at once
        async for items in lists:
            began_s = pace.now_s()
            yield items
            await asyncio.sleep(0)  # uvloop writes at the end of a turn of the loop
            if (rest := rest_s(pace.now_s() - began_s, pace.longest_rest_s)) > 0:
                await asyncio.sleep(rest)
