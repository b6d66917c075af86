"""Who did what, and who was refused what: the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from domain.text import storable


class AuditEntry(msgspec.Struct, frozen=True):
    """One thing that was done or refused; written in the transaction of what it tells of.

    Actions are named after what happened: ``config.updated``, ``rule.updated``, ``rule.deleted``,
    ``role.assigned``, ``role.revoked``, ``role.mapped``, ``role.unmapped``, ``warnings.cleared``,
    ``violation.reviewed``, ``access.denied``, ``auth.login``, ``auth.logout``.
    """

    guild_id: int | None
    actor_id: int | None
    """Who did it; None when it was nobody who is known."""
    action: str
    target: str | None = None
    """What it was done to: a user's id, a rule's name."""
    details: dict[str, Any] = {}
    """Whatever else tells a reader what happened: plain JSON, what was before beside what is now."""
    request_id: str | None = None

    def storable(self) -> AuditEntry:
        """Return the entry as every store can take it: its texts may be what strangers typed."""
        return AuditEntry(
            guild_id=self.guild_id,
            actor_id=self.actor_id,
            action=self.action,
            target=_storable(self.target),
            details=_storable(self.details),
            request_id=self.request_id,
        )


class Change(NamedTuple):
    """Who changes something, and by which request."""

    by_user_id: int
    request_id: str | None

    def entry(
        self, guild_id: int, action: str, target: str | None, details: dict[str, Any] | None = None
    ) -> AuditEntry:
        """Return what the log is to tell of it."""
        return AuditEntry(guild_id, self.by_user_id, action, target, details or {}, self.request_id)


class AuditRow(msgspec.Struct, frozen=True):
    """An entry in the log; its id is higher than that of every earlier row of its transaction."""

    audit_id: int
    entry: AuditEntry
    at_ms: int


class AuditLog(Protocol):
    """The log. All calls raise ``StoreUnavailable`` when the database is away."""

    async def record(self, entries: Sequence[AuditEntry]) -> None:
        """Write entries that belong to no other transaction, all of them or none."""
        ...

    async def page(
        self,
        guild_id: int,
        *,
        limit: int,
        offset: int,
        action: str | None = None,
        actor_id: int | None = None,
    ) -> tuple[list[AuditRow], int]:
        """Return a page of a guild's entries, newest first, and how many fit the filters in all."""
        ...


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case dict():
            return {storable(str(key)): _storable(one) for key, one in value.items()}
        case list() | tuple():
            return [_storable(one) for one in value]
        case _:
            return value
