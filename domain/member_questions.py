"""Which question about members' roles goes to Discord next. Decides only: no I/O, no clock.

Of one guild one request is under way at a time, so that no guild waits for another one. Those of whom nothing
is known go before those whose answer is to be renewed. What Discord refuses for a while stays queued.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal, NamedTuple

Kind = Literal["one", "list"]

LIST_FROM = 5
"""So many waiting members of one guild are looked for in a page of its list of members, not one by one:
Discord gives one page a second, and five single members."""

UNWANTED_AFTER_S = 300.0
"""A question that nobody repeats for so long is dropped. Who watches is looked at every two minutes."""

FIRST_REST_S, LONGEST_REST_S = 5.0, 60.0
"""How long a guild is left alone after Discord could not be asked."""

FAILURES = 10
"""So many failures in a row, of whatever guilds, and Discord is left alone altogether for a first rest."""


class Question(NamedTuple):
    """One request to Discord: about one member, or a page of the list from the first of these on."""

    kind: Kind
    guild_id: int
    user_ids: tuple[int, ...]


class _Wanted(NamedTuple):
    at_s: float
    """When somebody last wanted to know."""
    listed: bool = False
    """Whether a list was looked through in vain. That is no answer; Discord's word on the one member is."""


@dataclass(slots=True)
class _Guild:
    unknown: dict[int, _Wanted] = field(default_factory=dict)
    renewals: dict[int, _Wanted] = field(default_factory=dict)
    asking: bool = False
    rests_until_s: dict[Kind, float] = field(default_factory=dict)
    failures: int = 0
    list_is_long: bool = False
    """Whether too few of those who are wanted stood on a page."""


class MemberQuestions:
    """The queue. Bounded by ``room``, in members."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting = 0
        self._guilds: OrderedDict[int, _Guild] = OrderedDict()
        """The guild that was asked about longest ago first."""
        self._rests_until_s = float("-inf")
        self._failures = 0

    def __len__(self) -> int:
        """Return about how many members Discord is still to be asked."""
        return self._waiting

    def has(self, guild_id: int, user_id: int) -> bool:
        """Return whether a member is queued, or being asked about."""
        guild = self._guilds.get(guild_id)
        return guild is not None and (user_id in guild.unknown or user_id in guild.renewals)

    def rests_s(self, guild_id: int, now_s: float) -> float:
        """Return for how long no member of a guild may be asked about."""
        guild = self._guilds.get(guild_id)
        until_s = now_s if guild is None else guild.rests_until_s.get("one", now_s)
        return max(0.0, max(self._rests_until_s, until_s) - now_s)

    def want(self, guild_id: int, user_id: int, now_s: float, *, unknown: bool) -> bool:
        """Queue a member, or keep one queued; return False where there is no room."""
        guild = self._guilds.get(guild_id) or _Guild()
        renewal = guild.renewals.pop(user_id, None)
        wanted = guild.unknown.get(user_id) or renewal
        if wanted is None:
            if self._waiting >= self._room:
                return False
            self._waiting += 1
        self._guilds[guild_id] = guild
        queue = guild.unknown if unknown or user_id in guild.unknown else guild.renewals
        queue[user_id] = _Wanted(now_s, wanted is not None and wanted.listed)
        return True

    def settle(self, guild_id: int, user_id: int) -> None:
        """Take a member out: there is an answer."""
        guild = self._guilds.get(guild_id)
        if guild is None:
            return
        for users in (guild.unknown, guild.renewals):
            if user_id in users:
                self._drop(users, [user_id])
        self._tidy(guild_id, guild)

    def take(self, now_s: float) -> Question | None:
        """Return what to ask next, if anything may be asked now.

        One of ``done``, ``busy`` and ``failed`` is to be called after it.
        """
        if now_s < self._rests_until_s:
            return None
        for of_unknown in (True, False):
            for guild_id in list(self._guilds):
                guild = self._guilds[guild_id]
                users = guild.unknown if of_unknown else guild.renewals
                question = self._question(guild_id, guild, users, now_s)
                if question is not None:
                    guild.asking = True
                    self._guilds.move_to_end(guild_id)
                    return question
                self._tidy(guild_id, guild)
        return None

    def wait_s(self, now_s: float) -> float | None:
        """Return in how many seconds to look again; None: nothing waits but for an answer."""
        rests = [
            self.rests_s(guild_id, now_s)
            for guild_id, guild in self._guilds.items()
            if not guild.asking and (guild.unknown or guild.renewals)
        ]
        return min(rests, default=None)

    def done(self, question: Question, found: int) -> None:
        """Note that Discord answered, and of how many of those who were asked about."""
        guild = self._guilds[question.guild_id]
        guild.asking, guild.failures, self._failures = False, 0, 0
        if question.kind == "list":
            guild.list_is_long = found < LIST_FROM
        self._tidy(question.guild_id, guild)

    def looked_through(self, question: Question, until: int | None) -> None:
        """Note that those up to this id who have no answer yet were not on the page."""
        guild = self._guilds[question.guild_id]
        for user_id in question.user_ids:
            for users in (guild.unknown, guild.renewals):
                if user_id in users and (until is None or user_id <= until):
                    users[user_id] = users[user_id]._replace(listed=True)

    def busy(self, question: Question, rest_s: float, now_s: float, *, everywhere: bool) -> None:
        """Note how long Discord wants no such question about this guild, or nothing at all."""
        guild = self._guilds[question.guild_id]
        guild.asking = False
        if everywhere:
            self._rests_until_s = max(self._rests_until_s, now_s + rest_s)
        else:
            guild.rests_until_s[question.kind] = now_s + rest_s
        self._tidy(question.guild_id, guild)

    def failed(self, question: Question, now_s: float) -> None:
        """Note that Discord could not be asked. Those concerned go behind the others of their guild."""
        guild = self._guilds[question.guild_id]
        guild.asking = False
        rest_s = min(LONGEST_REST_S, FIRST_REST_S * 2.0 ** min(guild.failures, 10))
        guild.rests_until_s[question.kind] = now_s + rest_s
        guild.failures += 1
        self._failures += 1
        if self._failures >= FAILURES:
            self._rests_until_s = max(self._rests_until_s, now_s + FIRST_REST_S)
        if question.kind == "one":
            for users in (guild.unknown, guild.renewals):
                if question.user_ids[0] in users:
                    users[question.user_ids[0]] = users.pop(question.user_ids[0])
        self._tidy(question.guild_id, guild)

    def _question(
        self, guild_id: int, guild: _Guild, users: dict[int, _Wanted], now_s: float
    ) -> Question | None:
        if guild.asking:
            return None
        if len(users) >= LIST_FROM and not guild.list_is_long and _may(guild, "list", now_s):
            self._drop(users, [user_id for user_id, wanted in users.items() if _is_old(wanted, now_s)])
            unlisted = sorted(user_id for user_id, wanted in users.items() if not wanted.listed)
            if len(unlisted) >= LIST_FROM:
                return Question("list", guild_id, tuple(unlisted))
        if users and _may(guild, "one", now_s):
            self._drop(users, list(takewhile(lambda user_id: _is_old(users[user_id], now_s), users)))
            if users:
                return Question("one", guild_id, (next(iter(users)),))
        return None

    def _drop(self, users: dict[int, _Wanted], unwanted: list[int]) -> None:
        for user_id in unwanted:
            del users[user_id]
        self._waiting -= len(unwanted)

    def _tidy(self, guild_id: int, guild: _Guild) -> None:
        """Forget a guild of which nobody wants to know anything."""
        if not (guild.asking or guild.unknown or guild.renewals):
            self._guilds.pop(guild_id, None)


def _may(guild: _Guild, kind: Kind, now_s: float) -> bool:
    return now_s >= guild.rests_until_s.get(kind, now_s)


def _is_old(wanted: _Wanted, now_s: float) -> bool:
    return now_s - wanted.at_s > UNWANTED_AFTER_S
