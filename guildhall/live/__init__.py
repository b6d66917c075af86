"""Follow a guild's live stream from Python, as the dashboard's page does in a browser.

What is yielded is never behind a gap: a place in the stream is taken first, then the state is read over
HTTP, then come the events after that place. Connections break and come back by themselves; what was
missed is replayed, or the state is read anew::

    async with aiohttp.ClientSession() as http:
        load = ReadViolations(http, url, guild_id, cookie=cookie)
        shown = ViolationList()
        async for update in follow(url, guild_id, cookie=cookie, load=load):
            match update:
                case Reset(snapshot=violations):
                    shown.reset(violations)
                case Applied(events=events):
                    shown.apply(events)
                case Waiting(retry_in_s=seconds):
                    print(f"Away; back in {seconds:.0f} s.")

The rules are in :mod:`guildhall.live.machine`, which does no I/O, and are those of
``web/src/live/machine.ts``.
"""

from guildhall.live.client import follow
from guildhall.live.limits import Limits
from guildhall.live.messages import (
    BotStatus,
    Event,
    HealthUpdate,
    MetricsUpdate,
    Other,
    Review,
    User,
    Violation,
)
from guildhall.live.outbox import Update
from guildhall.live.over_http import ReadViolations, RecentViolations
from guildhall.live.status import Behind, Connecting, FollowingEnded, Live, LoadFailed, Waiting
from guildhall.live.violation_list import ViolationList
from guildhall.live.words import Applied, EndReason, LoadFailure, Reset

__all__ = [
    "Applied",
    "Behind",
    "BotStatus",
    "Connecting",
    "EndReason",
    "Event",
    "FollowingEnded",
    "HealthUpdate",
    "Limits",
    "Live",
    "LoadFailed",
    "LoadFailure",
    "MetricsUpdate",
    "Other",
    "ReadViolations",
    "RecentViolations",
    "Reset",
    "Review",
    "Update",
    "User",
    "Violation",
    "ViolationList",
    "Waiting",
    "follow",
]
