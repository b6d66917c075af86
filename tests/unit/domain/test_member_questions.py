"""Who is asked about next, and that what Discord refuses for a while is not forgotten."""

from __future__ import annotations

import pytest

from domain.member_questions import (
    FAILURES,
    FIRST_REST_S,
    LIST_FROM,
    UNWANTED_AFTER_S,
    MemberQuestions,
    Question,
)

A, B = 40, 41


def one(guild_id: int, user_id: int) -> Question:
    return Question("one", guild_id, (user_id,))


def queue(*members: tuple[int, int], room: int = 100, unknown: bool = True) -> MemberQuestions:
    questions = MemberQuestions(room)
    for guild_id, user_id in members:
        assert questions.want(guild_id, user_id, 0.0, unknown=unknown)
    return questions


def answer(questions: MemberQuestions, question: Question | None) -> None:
    assert question is not None
    for user_id in question.user_ids:
        questions.settle(question.guild_id, user_id)
    questions.done(question, len(question.user_ids))


def test_guilds_take_turns_and_the_unknown_go_first() -> None:
    """One request of a guild at a time; renewals come when nobody is unknown."""
    questions = queue((A, 1), (A, 2), (B, 9), unknown=False)
    assert questions.want(A, 3, 0.0, unknown=True)
    first = questions.take(0.0)
    assert first == one(A, 3)
    assert questions.take(0.0) == one(B, 9)
    assert questions.take(0.0) is None
    answer(questions, first)
    assert questions.want(A, 2, 0.0, unknown=True)  # its answer does not count any more
    for user_id in (2, 1):
        question = questions.take(0.0)
        assert question == one(A, user_id)
        answer(questions, question)
    assert len(questions) == 1
    answer(questions, one(B, 9))
    assert (len(questions), questions.take(0.0), questions.wait_s(0.0)) == (0, None, None)


def test_many_of_one_guild_are_looked_for_in_its_list() -> None:
    """Who is not on a page is asked about alone: only Discord's word on the one member is a no."""
    users = range(10, 10 + 2 * LIST_FROM)
    questions = queue(*((A, user_id) for user_id in users))
    page = questions.take(0.0)
    assert page == Question("list", A, tuple(users))
    for user_id in users[1:LIST_FROM]:
        questions.settle(A, user_id)
    questions.looked_through(page, until=users[LIST_FROM - 1])
    questions.done(page, LIST_FROM)
    page = questions.take(0.0)
    assert page == Question("list", A, tuple(users[LIST_FROM:]))
    for user_id in users[LIST_FROM:]:
        questions.settle(A, user_id)
    questions.looked_through(page, until=None)
    questions.done(page, LIST_FROM)
    assert questions.take(0.0) == one(A, users[0])


def test_a_list_that_is_too_long_is_left_alone() -> None:
    """Few of those who are wanted stood on its page: one by one is as fast."""
    questions = queue(*((A, user_id) for user_id in range(1, 20)))
    page = questions.take(0.0)
    assert page is not None
    questions.settle(A, 1)
    questions.looked_through(page, until=1)
    questions.done(page, 1)
    assert questions.take(0.0) == one(A, 2)


@pytest.mark.parametrize("everywhere", [False, True])
def test_what_discord_refuses_waits_as_long_as_it_says(everywhere: bool) -> None:
    """Alone, or with everything else; a list that is refused leaves single questions."""
    questions = queue((A, 1), (A, 2), (B, 9))
    first = questions.take(0.0)
    assert first == one(A, 1)
    questions.busy(first, 40.0, 0.0, everywhere=everywhere)
    assert questions.take(0.0) == (None if everywhere else one(B, 9))
    assert questions.rests_s(A, 10.0) == 30.0
    assert questions.wait_s(10.0) == 30.0
    assert questions.take(39.9) is None
    assert questions.take(40.0) == (one(B, 9) if everywhere else one(A, 1))
    many = queue(*((A, user_id) for user_id in range(1, 10)))
    page = many.take(0.0)
    assert page is not None
    many.busy(page, 40.0, 0.0, everywhere=everywhere)
    assert many.take(1.0) == (None if everywhere else one(A, 1))


def test_who_could_not_be_asked_about_goes_behind_the_others() -> None:
    """The guild rests, for longer each time; when nobody can be asked, everything does."""
    questions = queue((A, 1), (A, 2))
    rests, now_s = [], 0.0
    for user_id in (1, 2, 1):
        question = questions.take(now_s)
        assert question == one(A, user_id)
        questions.failed(question, now_s)
        rests.append(questions.rests_s(A, now_s))
        now_s += rests[-1]
    assert rests == [FIRST_REST_S, 2 * FIRST_REST_S, 4 * FIRST_REST_S]
    answer(questions, questions.take(now_s))
    question = questions.take(now_s)
    assert question is not None
    questions.failed(question, now_s)
    assert questions.rests_s(A, now_s) == FIRST_REST_S
    questions = queue(*((guild_id, 1) for guild_id in range(FAILURES + 1)))
    for _ in range(FAILURES):
        question = questions.take(0.0)
        assert question is not None
        questions.failed(question, 0.0)
    assert questions.take(0.0) is None
    assert questions.rests_s(FAILURES, 0.0) == FIRST_REST_S


def test_the_queue_is_bounded_and_forgets_what_nobody_wants() -> None:
    """Who is in it keeps their place."""
    questions = queue((A, 1), (A, 2), room=2)
    assert not questions.want(B, 9, 0.0, unknown=True)
    assert questions.want(A, 2, UNWANTED_AFTER_S, unknown=True)
    assert questions.take(UNWANTED_AFTER_S + 1) == one(A, 2)
    assert questions.want(B, 9, UNWANTED_AFTER_S + 1, unknown=True)
    assert not questions.has(A, 1)
