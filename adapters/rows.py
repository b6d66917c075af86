"""Rows of Postgres as records of the domain."""

from __future__ import annotations

from functools import lru_cache

import asyncpg

from adapters.postgres import to_ms
from domain import people
from domain.guild import HourCounts
from domain.views import ReviewView, UserView, ViolationView


def violation_from_row(row: asyncpg.Record) -> ViolationView:
    """Return a violation joined with its user, who may be unknown, and its review, if it has one."""
    return ViolationView(
        id=row["event_id"],
        guild_id=str(row["guild_id"]),
        channel_id=str(row["channel_id"]),
        channel_name=row["channel_name"],
        message_id=str(row["message_id"]),
        user=_user(row),
        detection=row["detection"],
        rule=row["rule"],
        severity=row["severity"],
        action=row["action"],
        action_status=row["action_status"],
        excerpt=row["excerpt"],
        ts=to_ms(row["ts"]),
        committed_at=to_ms(row["committed_at"]),
        review=_review(row),
    )


_hour_ms = lru_cache(maxsize=128)(to_ms)
"""The same number for the same hour: hundreds of thousands of guilds hold it."""


def hour_from_row(row: asyncpg.Record) -> HourCounts:
    """Return one row of ``metrics_hourly``."""
    return HourCounts(
        hour_ms=_hour_ms(row["hour"]),
        messages=row["messages"],
        low=row["low"],
        medium=row["medium"],
        high=row["high"],
        critical=row["critical"],
        joins=row["joins"],
        leaves=row["leaves"],
    )


def _user(row: asyncpg.Record) -> UserView:
    if row["deleted"]:
        return people.view(row["user_id"], people.gone(row["user_id"], seen_ms=0))
    return UserView(
        id=str(row["user_id"]),
        username=row["username"],
        display_name=row["display_name"],
        avatar_url=row["avatar_url"],
    )


def _review(row: asyncpg.Record) -> ReviewView | None:
    if row["verdict"] is None:
        return None
    return ReviewView(
        verdict=row["verdict"],
        by=str(row["reviewed_by"]),
        at=to_ms(row["reviewed_at"]),
        note=row["note"],
        version=row["review_version"],
    )
