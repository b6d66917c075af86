"""Made-up people, messages and events, for tests and examples: well-formed, and different by number."""

from __future__ import annotations

from typing import Any

import msgspec

from domain.detection import Message
from domain.events import GuildDescribed, UserRef, ViolationDetected
from domain.ids import violation_id

NOON_MS = 1_790_000_000_000 - 1_790_000_000_000 % 3_600_000
"""A full hour in the life of the samples."""


def person(number: int = 1, **changes: Any) -> UserRef:
    """Return a person."""
    return msgspec.structs.replace(UserRef(number, f"user{number}", f"User {number}"), **changes)


def message(guild_id: int = 1, number: int = 1, content: str = "hello there", **changes: Any) -> Message:
    """Return a message of a person."""
    sample = Message(
        guild_id=guild_id,
        channel_id=7,
        channel_name="general",
        message_id=number,
        author=person(),
        content=content,
        mentions=0,
        ts_ms=NOON_MS,
    )
    return msgspec.structs.replace(sample, **changes)


def violation(guild_id: int = 1, number: int = 1, **changes: Any) -> ViolationDetected:
    """Return a violation by message ``number``; its id is what a runner would give it."""
    rule = changes.get("rule", "invite-links")
    sample = ViolationDetected(
        guild_id=guild_id,
        event_id=violation_id(guild_id, number, rule),
        channel_id=7,
        channel_name="general",
        message_id=number,
        user=person(),
        detection="invite_link",
        rule=rule,
        severity="medium",
        action="delete",
        action_status="pending",
        excerpt="join discord.gg/xyz",
        content_hash=b"0123456789abcdef",
        ts_ms=NOON_MS,
    )
    return msgspec.structs.replace(sample, **changes)


def described(guild_id: int = 1, **changes: Any) -> GuildDescribed:
    """Return what Discord tells of a guild."""
    sample = GuildDescribed(guild_id, f"Guild {guild_id}", owner_id=1, icon_url=None, member_count=10)
    return msgspec.structs.replace(sample, **changes)
