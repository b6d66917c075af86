"""What may go wrong in one run, and how often: drawn from the seed, a different mixture each time."""

from __future__ import annotations

import random

import msgspec


class Faults(msgspec.Struct):
    """Rates are chances per call or per commit; counts are per run."""

    dropped_before: float = 0.0
    dropped_after: float = 0.0
    doubled: float = 0.0
    slow_call: float = 0.0
    commit_fails: float = 0.0
    commit_answer_lost: float = 0.0
    commit_slow: float = 0.0
    commit_late: float = 0.0
    """The caller is told that the database is away, and the commit lands afterwards."""
    read_fails: float = 0.0
    disk_fails: float = 0.0
    stream_breaks: int = 0
    host_crashes: int = 0
    host_freezes: int = 0
    director_crashes: int = 0
    directors_beside: int = 0
    """Another Director begins while the one before goes on, as when a network was cut in two."""
    runner_crashes: int = 0
    runner_restarts: int = 0
    runner_moves: int = 0
    """A runner's next life begins with another disk, also one from before."""
    runners_beside: int = 0
    """As above, while the one before goes on hearing the same, or hangs and goes on later."""
    store_outages: int = 0
    hosts_added: int = 0
    hosts_drained: int = 0
    guilds_dedicated: int = 0
    poison: bool = False
    small_spool: bool = False
    """The spool's bound is hit. Such a run has no counts and no kills of runners: each loss is one event."""

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        for name in self.__struct_fields__:
            if name not in {"poison", "small_spool"}:
                setattr(self, name, type(getattr(self, name))(0))


def draw(chance: random.Random) -> Faults:
    """Return one run's mixture. Each kind is absent from half of the runs, so that none hides another."""

    def rate(most: float) -> float:
        return chance.random() * most if chance.random() < 0.5 else 0.0

    def times(most: int) -> int:
        return chance.randint(1, most) if chance.random() < 0.5 else 0

    faults = Faults(
        dropped_before=rate(0.15),
        dropped_after=rate(0.15),
        doubled=rate(0.2),
        slow_call=rate(0.1),
        commit_fails=rate(0.2),
        commit_answer_lost=rate(0.3),
        commit_slow=rate(0.3),
        read_fails=rate(0.1),
        disk_fails=rate(0.1),
        stream_breaks=times(3),
        host_crashes=times(2),
        host_freezes=times(2),
        director_crashes=times(2),
        runner_crashes=times(3),
        runner_restarts=times(2),
        store_outages=times(2),
        hosts_added=times(1),
        hosts_drained=times(1),
        guilds_dedicated=times(2),
        poison=chance.random() < 0.5,
        small_spool=chance.random() < 0.1,
    )
    late = rate(0.2)  # drawn last: to switch it off leaves the rest of a seed as it is
    faults.commit_late = late
    faults.directors_beside = times(2)  # likewise
    faults.runner_moves, faults.runners_beside = times(2), times(2)  # likewise
    if faults.small_spool:
        faults.runner_crashes, faults.poison = 0, False
        faults.runner_moves = faults.runners_beside = 0
        faults.store_outages = max(1, faults.store_outages)
    return faults
