"""Which messages break a rule.

``Detector`` sees one message at a time, in the order Discord sent them, and says what is wrong with
it. It keeps only what the repeat rule needs, bounded, and takes time from the message itself, so the
same messages always give the same findings.
"""

from __future__ import annotations

import hashlib
import string
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import msgspec

from domain.events import Detection, Severity, UserRef
from domain.redaction import redacted
from domain.text import contains_word, storable, tame

EXCERPT_CHARS = 120


class Message(msgspec.Struct, frozen=True):
    """A message somebody posted in a guild, as far as moderation needs to know it."""

    guild_id: int
    channel_id: int
    channel_name: str | None
    message_id: int
    author: UserRef
    content: str
    mentions: int
    """Distinct people mentioned."""
    ts_ms: int


class Finding(msgspec.Struct, frozen=True):
    """One rule that a message breaks."""

    detection: Detection
    rule: str
    severity: Severity


class Pattern(Protocol):
    """A compiled regular expression. Untrusted text meets it, so its time must be linear in the text."""

    def search(self, text: str, /) -> object | None:
        """Return something when the pattern occurs in ``text``, else None."""
        ...


CompilePattern = Callable[[str], Pattern]


class DetectionRules(msgspec.Struct, frozen=True):
    """What counts as a violation. The defaults are a careful start for any guild."""

    banned_words: tuple[str, ...] = ("scumbag", "kys")
    phishing_domains: tuple[str, ...] = (
        "dlscord-gifts.com",
        "discorcl-nitro.gift",
        "steamcommunlty.com",
        "free-nitro-claim.xyz",
    )
    max_mentions: int = 5
    """More distinct people than this in one message is a flood."""
    repeats: int = 3
    """The same text by the same person this often within the window is a violation, from this one on."""
    repeat_window_ms: int = 30_000
    remembered_authors: int = 20_000
    """Bound on authors whose last messages are remembered; the longest silent is forgotten first."""


class SeenText(NamedTuple):
    """A text that was seen a moment ago: whose, and a mark of it."""

    message_id: int
    guild_id: int
    author_id: int
    mark: bytes
    ts_ms: int


class Detector:
    """Finds what is wrong with messages. Owns the memory of recent texts, which can be given to another."""

    def __init__(self, rules: DetectionRules, compile_pattern: CompilePattern) -> None:
        self._rules = rules
        self._invite = compile_pattern(r"(?i)\bdiscord(?:\.gg|(?:app)?\.com/invite)/[a-z0-9-]{2,}")
        self._phishing = compile_pattern(_any_domain(rules.phishing_domains))
        self._words = tuple(word.casefold() for word in rules.banned_words if word)
        self._recent: OrderedDict[tuple[int, int], deque[SeenText]] = OrderedDict()
        self._news: deque[SeenText] = deque(maxlen=rules.remembered_authors)

    def inspect(self, message: Message) -> Finding | None:
        """Return the gravest rule that the message breaks, or None."""
        repeated = self._repeated(message)
        if self._phishing.search(message.content):
            return Finding("phishing_link", "phishing-links", "critical")
        if message.mentions > self._rules.max_mentions:
            return Finding("mention_flood", "mention-flood", "high")
        if contains_word(message.content.casefold(), self._words):
            return Finding("banned_word", "banned-words", "medium")
        if self._invite.search(message.content):
            return Finding("invite_link", "invite-links", "medium")
        if repeated:
            return Finding("repeated_message", "repeats", "low")
        return None

    def _repeated(self, message: Message) -> bool:
        text = normalised(message.content)
        if not text:
            return False
        mark = hashlib.blake2b(text.encode(), digest_size=8).digest()
        seen = SeenText(message.message_id, message.guild_id, message.author.user_id, mark, message.ts_ms)
        recent = self._remember(seen)
        self._news.append(seen)
        self._forget_the_silent(message.ts_ms)
        # Not those behind it: told again, a message is no repetition of what came after it.
        return sum(1 for each in recent if each.mark == mark and each.message_id <= seen.message_id) >= (
            self._rules.repeats
        )

    def take_news(self) -> tuple[SeenText, ...]:
        """Return what was seen since the last call, for a detector that is to go on from here."""
        news = tuple(self._news)
        self._news.clear()
        return news

    def recall(self, seen: Iterable[SeenText]) -> None:
        """Remember what another detector saw before; told again, a message counts once."""
        for each in sorted(seen):
            self._remember(each)

    def _remember(self, seen: SeenText) -> deque[SeenText]:
        key = (seen.guild_id, seen.author_id)
        recent = self._recent.setdefault(key, deque(maxlen=16))
        self._recent.move_to_end(key)
        if any(each.message_id == seen.message_id for each in recent):
            return recent
        while recent and recent[0].ts_ms < seen.ts_ms - self._rules.repeat_window_ms:
            recent.popleft()
        recent.append(seen)
        return recent

    def _forget_the_silent(self, now_ms: int) -> None:
        """Forget whose messages no new one can be a repetition of, and more if there are too many.

        A window more is allowed for: shards that catch up are behind the others.
        """
        until_ms = now_ms - 2 * self._rules.repeat_window_ms
        while self._recent:
            longest_silent = next(iter(self._recent.values()))
            spare = len(self._recent) <= self._rules.remembered_authors
            if spare and longest_silent[-1].ts_ms >= until_ms:
                return
            self._recent.popitem(last=False)


def normalised(content: str) -> str:
    """Return the text as the repeat rule compares it: case and runs of white space do not count."""
    return " ".join(content.casefold().split())


def excerpt(content: str) -> str:
    """Return a short piece of the text for moderators: one line, tame, no numbers of cards or phones."""
    flat = " ".join(storable(content).split())
    shown = tame(redacted(flat))
    return shown if len(shown) <= EXCERPT_CHARS else shown[: EXCERPT_CHARS - 1] + "…"


def content_hash(content: str) -> bytes:
    """Return what is kept of a text so that equal texts can be recognised: 16 bytes."""
    return hashlib.blake2b(normalised(content).encode(), digest_size=16).digest()


def _any_domain(domains: tuple[str, ...]) -> str:
    if not domains:
        return r"[^\s\S]"  # nothing: an alternation of no names would find itself everywhere
    names = "|".join(_literal(domain) for domain in domains)
    return rf"(?i)(?:^|[^a-z0-9-])(?:[a-z0-9-]+\.)*(?:{names})(?:$|[^a-z0-9.-]|\.(?:$|[^a-z0-9]))"


def _literal(text: str) -> str:
    return "".join(f"\\{char}" if char in string.punctuation else char for char in text)
