"""Roles as one replica knows them: asked once a person, guild and second, however many requests there are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import NamedTuple

from cachetools import LRUCache

from domain.permissions import Role
from domain.roles import Member, Roles

REMEMBER_S = 1.0
"""How old an answer may be, counted from when it was asked for: what was revoked before is not in it."""

REMEMBERED = 50_000


class _Answer(NamedTuple):
    role: Role | None
    asked_s: float


class _Question(NamedTuple):
    task: asyncio.Task[dict[Member, Role | None]]
    asked_s: float


class RoleReader:
    """Asks the Rbac actor. Whoever comes while a question is under way waits for its answer."""

    def __init__(self, roles: Roles, monotonic_s: Callable[[], float]) -> None:
        self._roles = roles
        self._monotonic_s = monotonic_s
        self._known: LRUCache[Member, _Answer] = LRUCache(REMEMBERED)
        self._asking: dict[Member, _Question] = {}

    async def roles_of(self, members: Collection[Member]) -> dict[Member, Role | None]:
        """Return the role of each, None for those who have none; whoever is missing could not be asked about.

        Raises:
            StoreUnavailable, RolesUnavailable: nobody could be asked about.

        """
        now_s = self._monotonic_s()
        found: dict[Member, Role | None] = {}
        questions: set[asyncio.Task[dict[Member, Role | None]]] = set()
        new: list[Member] = []
        for member in members:
            answer, question = self._known.get(member), self._asking.get(member)
            if answer is not None and now_s - answer.asked_s < REMEMBER_S:
                found[member] = answer.role
            elif question is not None and now_s - question.asked_s < REMEMBER_S:
                questions.add(question.task)
            else:
                new.append(member)
        if new:
            questions.add(self._ask(new, now_s))
        if questions:
            await asyncio.wait(questions)  # not gather: who gives up waiting must not end it for the others
            told = {member: role for task in questions for member, role in task.result().items()}
            found |= {member: told[member] for member in members if member in told}
        return found

    def forget(self, guild_id: int) -> None:
        """Forget a guild whose roles were just changed: what is asked from here on is asked anew."""
        for remembered in (self._known, self._asking):
            for member in [member for member in remembered if member.guild_id == guild_id]:
                del remembered[member]

    def _ask(self, members: list[Member], now_s: float) -> asyncio.Task[dict[Member, Role | None]]:
        task = asyncio.create_task(self._roles.roles_of(members))
        question = _Question(task, now_s)
        self._asking.update(dict.fromkeys(members, question))
        task.add_done_callback(lambda _: self._answered(members, question))
        return task

    def _answered(self, members: list[Member], question: _Question) -> None:
        """Remember an answer, unless it was forgotten or asked for anew in the meantime."""
        well = not question.task.cancelled() and question.task.exception() is None
        for member in members:
            if self._asking.get(member) is question:
                del self._asking[member]
                if well and member in (answers := question.task.result()):
                    self._known[member] = _Answer(answers[member], question.asked_s)
