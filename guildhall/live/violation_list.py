"""A guild's violations as the dashboard lists them: merged by id, the newest first. No I/O."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from guildhall.live.messages import Event, Violation
from guildhall.live.over_http import RecentViolations

Key = tuple[int, int, str]

_SETTLED = ("done", "failed")


class ViolationList:
    """Takes what ``follow`` yields, and is what the server has.

    Iterating gives the violations, the newest first, in the order in which the API pages them.
    """

    def __init__(self, most: int = 500) -> None:
        """Keep this many; the oldest go first."""
        self.complete = False
        """Whether all that the guild has is in the list; before the first reset nobody knows."""
        self._most = most
        self._by_id: dict[str, Violation] = {}
        self._order: list[Key] = []

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Violation]:
        return (self._by_id[violation_id] for _, _, violation_id in self._order)

    def reset(self, read: RecentViolations) -> None:
        """Replace everything by what was just read."""
        self.complete = read.complete
        self._by_id = {violation.id: violation for violation in read.rows}
        self._order = sorted(_key(violation) for violation in self._by_id.values())
        self._shorten()

    def apply(self, events: Iterable[Event]) -> list[Violation]:
        """Take events in; return the violations that were not in the list before, in the order they came."""
        new: list[Violation] = []
        for event in events:
            violation = event.data
            if not isinstance(violation, Violation):
                continue
            before = self._by_id.get(violation.id)
            if before is not None:
                self._by_id[violation.id] = _merged(before, violation)
            elif self._belongs(violation):
                self._by_id[violation.id] = violation
                insort(self._order, _key(violation))
                new.append(violation)
        self._shorten()
        return new

    def _belongs(self, violation: Violation) -> bool:
        """Whether a new one may stand here: below an incomplete end it would leave a hole above it."""
        return self.complete or not self._order or _key(violation) < self._order[-1]

    def _shorten(self) -> None:
        for _, _, violation_id in self._order[self._most :]:
            del self._by_id[violation_id]
            self.complete = False
        del self._order[self._most :]


def _key(violation: Violation) -> Key:
    return -violation.ts_ms, -int(violation.message_id), violation.id


def _merged(before: Violation, after: Violation) -> Violation:
    """Return what is newer of both.

    An event that waited can be older than the state that was read after it: "done" must not become
    "pending" again, nor a review an earlier one or none.
    """
    regresses = after.action_status == "pending" and before.action_status in _SETTLED
    reviewed_before = before.review is not None and (
        after.review is None or after.review.version < before.review.version
    )
    return replace(
        after,
        action_status=before.action_status if regresses else after.action_status,
        review=before.review if reviewed_before else after.review,
    )
