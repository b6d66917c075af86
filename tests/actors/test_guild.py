"""One guild: who watches it, and what they are told when they come back."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.guild import REMEMBERED_EVENTS, GuildActor, Watcher
from adapters.memory.samples import violation
from domain.errors import TooManySockets
from domain.guild import GuildState
from domain.protocol import MAX_SOCKETS_PER_USER

EPOCH = 7


@pytest.fixture
def guild() -> GuildActor:
    return GuildActor(GuildState(1), EPOCH, 0)


def publish(guild: GuildActor, count: int) -> None:
    for number in range(count):
        guild.publish("violation", 1, {"number": number})


def offsets(frame: bytes) -> list[int]:
    return [event["offset"] for event in json.loads(frame)["events"]]


def test_deciding_changes_nothing(guild: GuildActor) -> None:
    """A decision that never becomes durable leaves no trace."""
    state, effects = guild.decide([violation()])
    assert guild.state == GuildState(1)
    assert len(effects) == 1
    guild.adopt(state)
    assert guild.state.hours[0].medium == 1


def test_a_newcomer_stands_at_the_present(guild: GuildActor) -> None:
    """Without a position there is nothing to miss."""
    publish(guild, 3)
    assert guild.admit(Watcher("r", 1), 10, None) == (EPOCH, 3, True, b"")


@pytest.mark.parametrize(
    ("published", "position", "missed"),
    [
        (3, (EPOCH, 3), []),  # up to date
        (3, (EPOCH, 1), [2, 3]),  # two behind
        (3, (EPOCH, 0), [1, 2, 3]),  # saw nothing of this epoch yet
        (3, (EPOCH, 4), None),  # ahead of us: not our offsets
        (3, (EPOCH - 1, 3), None),  # another activation's offsets
        (REMEMBERED_EVENTS + 5, (EPOCH, 5), list(range(6, REMEMBERED_EVENTS + 6))),  # the oldest kept
        (REMEMBERED_EVENTS + 5, (EPOCH, 4), None),  # one too far back
    ],
)
def test_a_comeback_gets_all_it_missed_or_is_told_so(
    guild: GuildActor, published: int, position: tuple[int, int], missed: list[int] | None
) -> None:
    """Either every event after the position, without a gap, or ``recovered: false``."""
    publish(guild, published)
    admission = guild.admit(Watcher("r", 1), 10, position)
    assert admission.recovered is (missed is not None)
    assert (offsets(admission.replay) if admission.replay else []) == (missed or [])
    assert admission.offset == published


@given(published=st.lists(st.booleans(), max_size=12))
def test_nothing_is_recovered_that_was_passed_over(published: list[bool]) -> None:
    """From any position on, either every event was published and is there, or ``recovered: false``."""
    guild = GuildActor(GuildState(1), EPOCH, 0)
    for kept in published:
        if kept:
            publish(guild, 1)
        else:
            guild.pass_over()
    for offset in range(len(published) + 1):
        admission = guild.admit(Watcher("r", 1), 10, (EPOCH, offset))
        assert admission.offset == len(published)
        assert admission.recovered is all(published[offset:])
        replayed = offsets(admission.replay) if admission.replay else []
        assert replayed == (list(range(offset + 1, len(published) + 1)) if admission.recovered else [])


def test_a_replay_that_is_too_long_is_none(guild: GuildActor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to so many bytes it is sent; with one more, reading the state anew is less."""
    publish(guild, 1)
    last_two = [guild.publish("violation", 1, {"number": number}) for number in (1, 2)]
    monkeypatch.setattr("actors.guild.MAX_REPLAY_BYTES", sum(map(len, last_two)))
    assert guild.admit(Watcher("r", 1), 1, (guild.epoch, 1)).recovered
    assert not guild.admit(Watcher("r", 1), 1, (guild.epoch, 0)).recovered


def test_the_sixth_socket_of_a_person_is_refused_over_all_relays(guild: GuildActor) -> None:
    """The limit is a person's, whatever relays they came through; another person is not concerned."""
    for number in range(MAX_SOCKETS_PER_USER):
        guild.admit(Watcher(f"relay{number}", 1), 10, None)
    with pytest.raises(TooManySockets):
        guild.admit(Watcher("relay9", 1), 10, None)
    guild.admit(Watcher("relay9", 2), 11, None)


def test_the_same_socket_may_ask_again(guild: GuildActor) -> None:
    """A socket that resumes is not a further one."""
    for number in range(MAX_SOCKETS_PER_USER):
        guild.admit(Watcher("r", number), 10, None)
    guild.admit(Watcher("r", 0), 10, (EPOCH, 0))


def test_a_dismissed_socket_makes_room(guild: GuildActor) -> None:
    """Dismissal frees the place, and dismissing a stranger is no error."""
    for number in range(MAX_SOCKETS_PER_USER):
        guild.admit(Watcher("r", number), 10, None)
    assert not guild.dismiss(Watcher("r", 0))
    assert not guild.dismiss(Watcher("r", 99))
    guild.admit(Watcher("r", 5), 10, None)


def test_a_relay_takes_its_sockets_along(guild: GuildActor) -> None:
    """Only the sockets of the relay that is gone go."""
    guild.admit(Watcher("gone", 1), 10, None)
    guild.admit(Watcher("here", 1), 10, None)
    assert not guild.dismiss_relay("gone")
    assert set(guild.relays) == {"here"}
    assert guild.dismiss_relay("here")
    assert not guild.watched


def test_the_last_to_leave_leaves_once(guild: GuildActor) -> None:
    """Only the dismissal that leaves nobody behind says so."""
    guild.admit(Watcher("r", 1), 10, None)
    guild.admit(Watcher("r", 2), 10, None)
    dismissed = [guild.dismiss(Watcher("r", number)) for number in (1, 1, 2, 2)]
    assert dismissed == [False, False, True, False]
    assert not guild.dismiss_relay("r")
