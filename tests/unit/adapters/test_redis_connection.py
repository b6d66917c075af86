from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from adapters.redis_connection import Fuse
from domain.errors import SessionsUnavailable


class Talk:
    """Conversations with a Redis that a test lets fail; counts those that reached it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.problem: RedisError | None = None
        self.reached = 0
        self.fuse = Fuse(SessionsUnavailable, pause_s=1.0, monotonic=lambda: self.now_s)

    def __call__(self) -> bool:
        """Return whether the conversation went well."""
        try:
            with self.fuse():
                self.reached += 1
                if self.problem:
                    raise self.problem
        except SessionsUnavailable:
            return False
        return True


@pytest.fixture
def talk() -> Talk:
    return Talk()


def test_nothing_stands_between_while_all_is_well(talk: Talk) -> None:
    """Every conversation reaches Redis."""
    assert all(talk() for _ in range(10))
    assert talk.reached == 10


@pytest.mark.parametrize("problem", [RedisConnectionError(), ResponseError("OOM")])
def test_after_a_failure_one_a_second_tries(talk: Talk, problem: RedisError) -> None:
    """All others are told at once."""
    talk.problem = problem
    assert not any(talk() for _ in range(10))
    assert talk.reached == 1
    talk.now_s = 0.99
    assert not talk()
    assert talk.reached == 1
    talk.now_s = 1.0
    assert not any(talk() for _ in range(10))
    assert talk.reached == 2


def test_when_it_is_back_all_is_as_before(talk: Talk) -> None:
    """The first that tries finds it."""
    talk.problem = RedisConnectionError()
    talk()
    talk.problem = None
    talk.now_s = 1.0
    assert all(talk() for _ in range(10))


def test_while_one_tries_the_others_do_not_wait(talk: Talk) -> None:
    """A Redis that hangs holds up one caller a second."""
    talk.problem = RedisConnectionError()
    talk()
    talk.now_s = 1.0
    with talk.fuse():  # still under way
        assert not talk()
        assert talk.reached == 1


def test_a_bug_of_ours_is_no_failure_of_redis(talk: Talk) -> None:
    """It goes on as what it is."""
    with pytest.raises(ZeroDivisionError), talk.fuse():
        raise ZeroDivisionError
    assert talk()
