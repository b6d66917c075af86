"""People behind ids: what is known of somebody, how old it may be, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Protocol

import msgspec

from domain.ids import HOUR_MS
from domain.views import UserView

FRESH_MS = 24 * HOUR_MS
"""What Discord said is taken for true this long; after that it is asked again, and is shown until then."""

_DELETED_NAME = re.compile(r"deleted_user_[0-9a-f]+")


class Person(msgspec.Struct, frozen=True):
    """Somebody as Discord described them at ``seen_ms``. Of who deleted their account only that is known."""

    user_id: int
    username: str | None
    display_name: str | None
    avatar_url: str | None
    seen_ms: int
    deleted: bool = False

    def fresh(self, now_ms: int) -> bool:
        """Whether Discord need not be asked again. An account that was deleted does not come back."""
        return self.deleted or now_ms - self.seen_ms < FRESH_MS


def described(
    user_id: int, username: str, display_name: str, avatar_url: str | None, *, seen_ms: int
) -> Person:
    """Return a person as Discord describes them; an account that was deleted has a name that says so."""
    if _DELETED_NAME.fullmatch(username):
        return gone(user_id, seen_ms=seen_ms)
    return Person(user_id, username, display_name, avatar_url, seen_ms)


def gone(user_id: int, *, seen_ms: int) -> Person:
    """Return somebody whose account was deleted."""
    return Person(user_id, None, None, None, seen_ms, deleted=True)


def view(user_id: int, person: Person | None) -> UserView:
    """Return a person as they are shown; who is not known has an id and no names."""
    if person is None:
        return UserView(id=str(user_id), username=None, display_name=None, avatar_url=None)
    name = f"Deleted User #{user_id % 1_000_000:06d}" if person.deleted else person.display_name
    return UserView(
        id=str(user_id), username=person.username, display_name=name, avatar_url=person.avatar_url
    )


class People(Protocol):
    """Who is behind an id."""

    async def resolve(self, user_ids: Collection[int]) -> dict[int, UserView]:
        """Return everybody asked for, within a bounded time. Never raises: who is not known has no names."""
        ...


class PersonMemory(Protocol):
    """A place where people are remembered. All calls raise ``StoreUnavailable`` when it is away."""

    async def recall(self, user_ids: Collection[int]) -> dict[int, Person]:
        """Return those who are remembered, however long ago they were described."""
        ...

    async def remember(self, people: Collection[Person]) -> None:
        """Keep these people; what is newer already stays."""
        ...


class PersonSource(Protocol):
    """Discord, as the one who knows."""

    async def describe(self, user_id: int) -> Person:
        """Ask who this is; an account that does not exist (any more) is one that was deleted.

        Raises:
            DiscordBusy: not now, but after ``retry_after_s`` seconds.
            DiscordUnavailable: no answer that could be used.

        """
        ...
