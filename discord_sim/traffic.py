"""People who talk: which messages are due, who writes them where, and which of them offend.

Pure: a seeded generator and the clock come in, plans go out. Each plan's label is known because the text was
made to be what the label says.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal

from .phrases import Phrasebook, RecentTexts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .world import Guild, World

Label = Literal["invite_link", "phishing_link", "banned_word", "mention_flood", "repeated_message"]
LABELS: tuple[Label, ...] = (
    "invite_link",
    "phishing_link",
    "banned_word",
    "mention_flood",
    "repeated_message",
)
DEFAULT_OFFENCE_SHARE = 0.035
MAX_RATE = 5_000.0

_REPEAT_WINDOW_S = 30.0
_REPEATS_ALLOWED = 2
# Clean texts stay away from repetition for longer than the window, so that no clock decides about a label.
_MEMORY_S = 45.0
_REPEAT_SHARE = 0.1
_SINGLE_KINDS: tuple[Label, ...] = ("invite_link", "phishing_link", "banned_word", "mention_flood")
_SINGLE_WEIGHTS = (0.30, 0.26, 0.30, 0.14)
_FLOOD_MENTIONS = (6, 9)
_REPEATS = (4, 6)
_REPEAT_GAP_S = (0.6, 2.0)
_ZIPF_EXPONENT = 0.9
_QUIET_DEPTH = 0.45  # at its quietest hour a guild talks 45 % less than at its mean
_REWEIGH_EVERY_S = 60.0
_DAY_S = 86_400.0
_BURST_SHARE = 0.4  # of messages that go where it is lively right now
_BURST_START = 0.03
_BURST_LENGTH = (8, 40)
_LIVELY_AT_ONCE = 12
_TALK_ON = 0.8
_MENTION_SHARE = 0.06
_HABITUAL_SHARE = 0.85
_MOVES_PER_MESSAGE = 1 / 250  # joins and leaves together
_CATCH_UP_S = 1.0
_NUDGE_AFTER_S = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMessage:
    """A message to post now."""

    guild_id: int
    channel_id: int
    author_id: int
    content: str
    label: Label | None = None
    mention_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMove:
    """A member who joins or leaves now."""

    guild_id: int
    user_id: int
    joins: bool


Plan = PlannedMessage | PlannedMove


@dataclass(slots=True)
class _Conversation:
    channel_id: int
    speakers: list[int]
    left: int
    last: int = 0


class _Place:
    """One guild as traffic sees it: who talks there, who offends, what is being talked about."""

    def __init__(self, guild: Guild, silent: set[int], rng: random.Random) -> None:
        self.guild = guild
        self.channel_ids = [channel.id for channel in guild.text_channels]
        self.people = [user_id for user_id in guild.members if user_id not in silent]
        self.offenders = rng.sample(self.people, min(len(self.people), rng.randint(2, 5)))
        self.phase_s = rng.uniform(0, _DAY_S)
        self.conversations: list[_Conversation] = []

    def activity(self, now: float) -> float:
        """Return how lively this hour is here, 1 on average over the day."""
        return 1 + _QUIET_DEPTH * math.sin(2 * math.pi * (now + self.phase_s) / _DAY_S)

    def someone(self, rng: random.Random) -> int | None:
        """Return a member who is still here."""
        while self.people:
            place = rng.randrange(len(self.people))
            if self.people[place] in self.guild.members:
                return self.people[place]
            self.people[place] = self.people[-1]
            self.people.pop()
        return None


class Traffic:
    """Decides what happens next; `advance` returns what is due."""

    def __init__(
        self,
        world: World,
        *,
        seed: int,
        rate: float,
        now: float,
        offence_share: float = DEFAULT_OFFENCE_SHARE,
    ) -> None:
        self._world = world
        self._rng = random.Random(f"traffic:{seed}")
        self._phrases = Phrasebook(self._rng)
        self._recent = RecentTexts(_MEMORY_S)
        silent = {world.bot.id} | {user.id for user in world.people.values()}
        self._places = [_Place(guild, silent, self._rng) for guild in world.guilds.values()]
        self._place_of = {place.guild.id: place for place in self._places}
        self._crowd = [user_id for user_id in world.users if user_id not in silent]
        self._cumulative: Sequence[float] = ()
        self._weighed_at = -math.inf
        self._lively: list[tuple[_Place, int]] = []
        self._scheduled: list[tuple[float, int, PlannedMessage]] = []
        self._order = 0
        # Scheduled messages are part of the rate: for each, one ordinary message is not written.
        self._debt = 0
        self.rate = 0.0
        self.offence_share = offence_share
        self._next_message_at = self._next_move_at = math.inf
        self.set_rate(rate, now)

    def set_rate(self, rate: float, now: float, offence_share: float | None = None) -> None:
        """Change the overall messages per second, 0 for silence; and the share of offending ones."""
        if offence_share is not None:
            self.offence_share = offence_share
        self.rate = rate if self._places else 0.0
        if self.rate == 0:
            self._scheduled.clear()
            self._debt = 0
            self._next_message_at = self._next_move_at = math.inf
        else:
            self._next_message_at = now + self._rng.expovariate(self.rate)
            self._next_move_at = now + self._rng.expovariate(self.rate * _MOVES_PER_MESSAGE)

    def nudge(self, guild_ids: Sequence[int], now: float) -> None:
        """Let an offence happen soon in one of these guilds, so that whoever just connected sees one."""
        known = [self._place_of[guild_id] for guild_id in guild_ids if guild_id in self._place_of]
        if not known or self.rate == 0 or self.offence_share == 0:
            return
        plan = self._offence(self._rng.choice(known), self._rng.choice(_SINGLE_KINDS), now)
        if plan is not None:
            self._schedule(now + _NUDGE_AFTER_S, plan)

    def advance(self, now: float) -> list[Plan]:
        """Return everything due up to now, in the order it happens."""
        self._weigh(now)
        if now - self._next_message_at > _CATCH_UP_S:  # the process was held up: people do not make up for it
            self._next_message_at = now - _CATCH_UP_S
        plans: list[Plan] = []
        while self._scheduled and self._scheduled[0][0] <= now:
            plans.append(self._say(heapq.heappop(self._scheduled)[2], now))
        while self._next_message_at <= now:
            self._next_message_at += self._rng.expovariate(self.rate)
            if self._debt:
                self._debt -= 1
            elif (plan := self._compose(now)) is not None:
                plans.append(self._say(plan, now))
        while self._next_move_at <= now:
            self._next_move_at = now + self._rng.expovariate(self.rate * _MOVES_PER_MESSAGE)
            if (move := self._move()) is not None:
                plans.append(move)
        return plans

    # -- messages

    def _say(self, plan: PlannedMessage, now: float) -> PlannedMessage:
        """Settle a label that depends on the past, and remember the text."""
        said = self._recent.count(plan.guild_id, plan.author_id, plan.content, now, _REPEAT_WINDOW_S)
        self._recent.add(plan.guild_id, plan.author_id, plan.content, now)
        if plan.label is None and said >= _REPEATS_ALLOWED:
            return PlannedMessage(
                guild_id=plan.guild_id,
                channel_id=plan.channel_id,
                author_id=plan.author_id,
                content=plan.content,
                label="repeated_message",
            )
        return plan

    def _compose(self, now: float) -> PlannedMessage | None:
        place = self._somewhere()
        repeats = _REPEAT_SHARE if self.offence_share < 0.5 else 0.0  # noqa: PLR2004 - beyond, singles are enough
        # A repetition is 5 messages on average of which 3 offend; solve for the share of all messages.
        begin = self.offence_share / (1 + 2 * repeats - 4 * repeats * self.offence_share)
        if self._rng.random() >= begin:
            return self._chat(place, now)
        if self._rng.random() < repeats:
            return self._repetition(place, now)
        kind = self._rng.choices(_SINGLE_KINDS, _SINGLE_WEIGHTS)[0]
        return self._offence(place, kind, now)

    def _chat(self, place: _Place, now: float) -> PlannedMessage | None:
        talk, opening = self._conversation(place)
        if talk is None:
            return None
        others = [speaker for speaker in talk.speakers if speaker != talk.last]
        author_id = talk.last = self._rng.choice(others or talk.speakers)
        content = self._phrases.clean(opening=opening)
        mention_ids: tuple[int, ...] = ()
        if others and self._rng.random() < _MENTION_SHARE:
            mentioned = self._rng.choice(others)
            content, mention_ids = f"<@{mentioned}> {content}", (mentioned,)
        return self._plan(place, talk.channel_id, author_id, content, now, mention_ids=mention_ids)

    def _conversation(self, place: _Place) -> tuple[_Conversation | None, bool]:
        place.conversations = [talk for talk in place.conversations if talk.left > 0]
        if place.conversations and self._rng.random() < _TALK_ON:
            talk = self._rng.choice(place.conversations)
            talk.left -= 1
            talk.speakers = [speaker for speaker in talk.speakers if speaker in place.guild.members]
            if talk.speakers:
                return talk, False
        found = {place.someone(self._rng) for _ in range(self._rng.randint(2, 5))} - {None}
        speakers = sorted(speaker for speaker in found if speaker is not None)
        if not speakers or not place.channel_ids:
            return None, True
        # The first channel is the general one: half of the talk is there.
        general = self._rng.random() < 0.5  # noqa: PLR2004 - half
        channel_id = place.channel_ids[0] if general else self._rng.choice(place.channel_ids)
        talk = _Conversation(channel_id, speakers, self._rng.randint(4, 30))
        place.conversations = [*place.conversations[-2:], talk]
        return talk, True

    def _offence(self, place: _Place, kind: Label, now: float) -> PlannedMessage | None:
        author_id = self._offender(place)
        if author_id is None:
            return None
        mention_ids: tuple[int, ...] = ()
        match kind:
            case "invite_link":
                content = self._phrases.invite_link()
            case "phishing_link":
                content = self._phrases.phishing_link()
            case "banned_word":
                content = self._phrases.banned_word()
            case _:
                others = [user_id for user_id in place.guild.members if user_id != author_id]
                chosen = self._rng.sample(others, min(len(others), self._rng.randint(*_FLOOD_MENTIONS)))
                content, mention_ids = self._phrases.mention_flood(chosen), tuple(chosen)
        channel_id = self._rng.choice(place.channel_ids)
        return self._plan(place, channel_id, author_id, content, now, label=kind, mention_ids=mention_ids)

    def _repetition(self, place: _Place, now: float) -> PlannedMessage | None:
        author_id = self._offender(place)
        if author_id is None:
            return None
        channel_id = self._rng.choice(place.channel_ids)
        first = self._plan(place, channel_id, author_id, self._phrases.repeated(), now)
        at = now
        for _ in range(self._rng.randint(*_REPEATS) - 1):
            at += self._rng.uniform(*_REPEAT_GAP_S)
            self._schedule(at, first)
        return first

    def _plan(
        self,
        place: _Place,
        channel_id: int,
        author_id: int,
        content: str,
        now: float,
        *,
        label: Label | None = None,
        mention_ids: tuple[int, ...] = (),
    ) -> PlannedMessage:
        guild_id = place.guild.id
        if self._recent.count(guild_id, author_id, content, now, _MEMORY_S):
            content = self._phrases.distinct(content)
        return PlannedMessage(
            guild_id=guild_id,
            channel_id=channel_id,
            author_id=author_id,
            content=content,
            label=label,
            mention_ids=mention_ids,
        )

    def _schedule(self, at: float, plan: PlannedMessage) -> None:
        self._order += 1
        heapq.heappush(self._scheduled, (at, self._order, plan))
        self._debt += 1

    # -- where and who

    def _somewhere(self) -> _Place:
        if self._lively and self._rng.random() < _BURST_SHARE:
            index = self._rng.randrange(len(self._lively))
            place, left = self._lively[index]
            if left > 1:
                self._lively[index] = (place, left - 1)
            else:
                self._lively.pop(index)
            return place
        place = self._places[bisect(self._cumulative, self._rng.random() * self._cumulative[-1])]
        if len(self._lively) < _LIVELY_AT_ONCE and self._rng.random() < _BURST_START:
            self._lively.append((place, self._rng.randint(*_BURST_LENGTH)))
        return place

    def _weigh(self, now: float) -> None:
        """Guilds are popular by rank, and each has its own quiet hours; the overall rate stays."""
        if now - self._weighed_at < _REWEIGH_EVERY_S:
            return
        self._weighed_at = now
        self._cumulative = list(
            accumulate(
                place.activity(now) / rank**_ZIPF_EXPONENT for rank, place in enumerate(self._places, start=1)
            )
        )

    def _offender(self, place: _Place) -> int | None:
        here = [user_id for user_id in place.offenders if user_id in place.guild.members]
        if here and self._rng.random() < _HABITUAL_SHARE:
            return self._rng.choice(here)
        return place.someone(self._rng)

    def _move(self) -> PlannedMove | None:
        place = self._somewhere()
        members = place.guild.members
        if self._rng.random() < 0.5:  # noqa: PLR2004 - as many come as go
            newcomer = self._rng.choice(self._crowd)
            if newcomer in members:
                return None
            place.people.append(newcomer)
            return PlannedMove(guild_id=place.guild.id, user_id=newcomer, joins=True)
        leaver = place.someone(self._rng)
        if leaver is None or leaver in place.offenders or leaver == place.guild.owner_id:
            return None
        return PlannedMove(guild_id=place.guild.id, user_id=leaver, joins=False)
