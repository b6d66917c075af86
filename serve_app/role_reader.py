"""Roles as one replica knows them: asked once a person and guild, until Rbac says that it changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from cachetools import LRUCache

from domain.permissions import Role
from domain.roles import AuthorityChange, Member, Roles

REMEMBER_S = 1.0
"""How old an answer may be while no changes are heard, counted from when it was asked for."""
REMEMBER_HEARD_S = 60.0
"""How old it may be while they are: what only Discord knows is looked at again that often."""

MAX_GUILDS = 10_000
MAX_MEMBERS_OF_GUILD = 2_000
"""A guild of which more are remembered is forgotten, and begins anew."""


class _Answer(NamedTuple):
    role: Role | None
    asked_s: float


class _Question(NamedTuple):
    task: asyncio.Task[dict[Member, Role | None]]
    asked_s: float


class RoleReader:
    """Asks the Rbac actor. Whoever comes while a question is under way waits for its answer."""

    def __init__(
        self,
        roles: Roles,
        monotonic_s: Callable[[], float],
        hears: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take whom to ask, the clock, and what says whether changes are heard now."""
        self._roles = roles
        self._monotonic_s = monotonic_s
        self._hears = hears
        self._known: LRUCache[int, dict[Member, _Answer]] = LRUCache(MAX_GUILDS)
        self._asking: dict[Member, _Question] = {}

    async def roles_of(self, members: Collection[Member]) -> dict[Member, Role | None]:
        """Return the role of each, None for those who have none; whoever is missing could not be asked about.

        Raises:
            StoreUnavailable, RolesUnavailable: nobody could be asked about.

        """
        now_s = self._monotonic_s()
        remember_s = REMEMBER_HEARD_S if self._hears() else REMEMBER_S
        found: dict[Member, Role | None] = {}
        questions: set[asyncio.Task[dict[Member, Role | None]]] = set()
        new: list[Member] = []
        for member in members:
            answer, question = self._answer(member), self._asking.get(member)
            if answer is not None and now_s - answer.asked_s < remember_s:
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
        self.changed([AuthorityChange(guild_id, None, 0)])

    def changed(self, changes: Sequence[AuthorityChange]) -> None:
        """Forget those of whom the Rbac actor says that their authority may have changed."""
        for guild_id, user_id, _ in changes:
            of_guild = self._known.get(guild_id)
            if of_guild is not None and user_id is None:
                del self._known[guild_id]
            elif of_guild is not None:
                for member in [member for member in of_guild if member.user_id == user_id]:
                    del of_guild[member]
            concerned = [m for m in self._asking if m.guild_id == guild_id and user_id in (None, m.user_id)]
            for member in concerned:
                del self._asking[member]

    def missed(self) -> None:
        """Forget everybody: some changes may not have been heard."""
        self._known.clear()
        self._asking.clear()

    def _answer(self, member: Member) -> _Answer | None:
        of_guild = self._known.get(member.guild_id)
        return None if of_guild is None else of_guild.get(member)

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
                    self._remember(member, _Answer(answers[member], question.asked_s))

    def _remember(self, member: Member, answer: _Answer) -> None:
        of_guild = self._known.get(member.guild_id)
        if of_guild is None or len(of_guild) >= MAX_MEMBERS_OF_GUILD:
            of_guild = self._known[member.guild_id] = {}
        of_guild[member] = answer
