"""Every rule against what people write, on the standard library's engine and on the one that we run."""

from __future__ import annotations

import itertools
import re
import string
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.memory.samples import NOON_MS, message, person
from adapters.re2_patterns import compile_pattern
from domain.detection import (
    EXCERPT_CHARS,
    CompilePattern,
    DetectionRules,
    Detector,
    Finding,
    content_hash,
    excerpt,
    normalised,
)

ENGINES = [pytest.param(re.compile, id="re"), pytest.param(compile_pattern, id="re2")]
every_engine = pytest.mark.parametrize("engine", ENGINES)


def found(engine: CompilePattern, content: str, rules: DetectionRules | None = None, **changes: Any) -> Any:
    finding = Detector(rules or DetectionRules(), engine).inspect(message(content=content, **changes))
    return finding and finding.detection


@every_engine
@pytest.mark.parametrize(
    "content",
    [
        "discord.gg/abc",
        "https://discord.gg/abc-DEF1",
        "join (discord.gg/abc)!",
        "DISCORD.GG/ABC",
        "discord.com/invite/abc",
        "https://www.discordapp.com/invite/abc?x=1",
        "ptb.discord.com/invite/abc",
        "éééé discord.gg/abc",
    ],
)
def test_an_invite_is_found(engine: CompilePattern, content: str) -> None:
    """In every way that Discord itself understands one."""
    assert found(engine, content) == "invite_link"


@every_engine
@pytest.mark.parametrize(
    "content",
    [
        "discord.gg",  # no code
        "discord.gg/",
        "discord.gg/ abc",
        "discord.com/channels/1/2",
        "xdiscord.gg/abc",  # another domain
        "discordXgg/abc",  # a dot is a dot
        "discord.gg.example.org/abc",
        "I like discord and gg/abc",
    ],
)
def test_no_invite_is_no_violation(engine: CompilePattern, content: str) -> None:
    """A word or a domain that only looks like one."""
    assert found(engine, content) is None


@every_engine
@pytest.mark.parametrize(
    "content",
    [
        "dlscord-gifts.com",
        "http://dlscord-gifts.com/free",
        "https://www.DLSCORD-Gifts.COM/free",
        "a.b.c.dlscord-gifts.com",
        "see dlscord-gifts.com.",  # the end of a sentence
        "dlscord-gifts.com. Go!",
        "dlscord-gifts.com, now",
        "(dlscord-gifts.com)",
        "<dlscord-gifts.com>",
        "dlscord-gifts.com:443",
        "dlscord-gifts.com?x",
        "x\ndlscord-gifts.com\ny",
        "user@dlscord-gifts.com",
        "notdlscord-gifts.com dlscord-gifts.com",  # the second one counts
    ],
)
def test_a_phishing_domain_is_found(engine: CompilePattern, content: str) -> None:
    """With any subdomain, in any case, with any punctuation around it."""
    assert found(engine, content) == "phishing_link"


@every_engine
@pytest.mark.parametrize(
    "content",
    [
        "notdlscord-gifts.com",
        "not-dlscord-gifts.com",
        "dlscord-gifts.com.evil.org",  # belongs to evil.org
        "dlscord-gifts.community",
        "dlscord-gifts.com-pany.org",
        "dlscord-giftsXcom",  # a dot is a dot
        "dlscord-gifts",
        "dlscord-gifts. com",
    ],
)
def test_a_neighbour_of_a_phishing_domain_is_not_it(engine: CompilePattern, content: str) -> None:
    """A longer name on either side is somebody else's."""
    assert found(engine, content) is None


@every_engine
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("you scumbag", "banned_word"),
        ("SCUMBAG!", "banned_word"),
        ("kys", "banned_word"),
        ("kys.", "banned_word"),
        ("scumbags", None),
        ("skyscraper", None),
        ("kysely", None),
        ("blue skys", None),
        ("äkys", None),  # RE2's own word boundary would see one here
    ],
)
def test_banned_words_are_whole_words(engine: CompilePattern, content: str, expected: str | None) -> None:
    """In any case, and never inside another word."""
    assert found(engine, content) == expected


@every_engine
@pytest.mark.parametrize("content", ["ты Дурак!", "ÜBEL", "übel", "c++", "a c++."])
def test_banned_words_of_every_script(engine: CompilePattern, content: str) -> None:
    """Words that are not ASCII, and words with punctuation in them."""
    assert found(engine, content, DetectionRules(banned_words=("дурак", "übel", "c++"))) == "banned_word"


@every_engine
@pytest.mark.parametrize("content", ["", "hello", "https://example.org", "a b", "…"])
def test_empty_lists_find_nothing(engine: CompilePattern, content: str) -> None:
    """A guild without words and domains has no such violations."""
    assert found(engine, content, DetectionRules(banned_words=(), phishing_domains=())) is None


@every_engine
@pytest.mark.parametrize("char", string.punctuation)
def test_any_character_may_stand_in_a_domain(engine: CompilePattern, char: str) -> None:
    """A list with a stray character is taken literally, and breaks no pattern."""
    rules = DetectionRules(phishing_domains=(f"a{char}b.example",))
    assert found(engine, f"see a{char}b.example now", rules) == "phishing_link"
    assert found(engine, "see aXb.example now", rules) is None


@every_engine
@pytest.mark.parametrize(("mentions", "expected"), [(5, None), (6, "mention_flood")])
def test_a_flood_begins_behind_the_limit(engine: CompilePattern, mentions: int, expected: str | None) -> None:
    """Five people are a conversation."""
    assert found(engine, "hi", mentions=mentions) == expected


@every_engine
def test_the_gravest_rule_speaks(engine: CompilePattern) -> None:
    """A message that breaks several is one violation, by the worst."""
    detector = Detector(DetectionRules(), engine)
    rest = "scumbag discord.gg/abc"
    assert detector.inspect(message(content=f"dlscord-gifts.com {rest}", mentions=9)) == Finding(
        "phishing_link", "phishing-links", "critical"
    )
    assert detector.inspect(message(content=rest, mentions=9)) == Finding(
        "mention_flood", "mention-flood", "high"
    )
    assert detector.inspect(message(content=rest)) == Finding("banned_word", "banned-words", "medium")


_message_ids = itertools.count(1)


def repeat(detector: Detector, *seconds: float, **changes: Any) -> list[bool]:
    return [
        detector.inspect(
            message(
                **(
                    {"content": "buy now"}
                    | changes
                    | {"ts_ms": NOON_MS + int(s * 1000), "message_id": next(_message_ids)}
                )
            )
        )
        is not None
        for s in seconds
    ]


def test_what_one_detector_saw_another_goes_on_with() -> None:
    """Told again, a message counts once, and is no repetition of those that came after it."""
    first = Detector(DetectionRules(), re.compile)
    texts = [message(content="buy now", message_id=number, ts_ms=NOON_MS + number) for number in (1, 2, 3, 4)]
    assert [first.inspect(text) is not None for text in texts[:3]] == [False, False, True]
    second = Detector(DetectionRules(), re.compile)
    second.recall(first.take_news())
    assert first.take_news() == ()
    assert [second.inspect(text) is not None for text in texts[1:]] == [False, True, True]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0, 1, 2, 3], [False, False, True, True]),  # the third and every one after it
        ([0, 15, 30], [False, False, True]),  # the window's edge is inside
        ([0, 15, 30.001], [False, False, False]),
        ([0, 20, 40, 45], [False, False, False, True]),  # the window moves along
    ],
)
def test_repeats_within_the_window(seconds: list[float], expected: list[bool]) -> None:
    """The same text by the same person, three times in thirty seconds."""
    assert repeat(Detector(DetectionRules(), re.compile), *seconds) == expected


@pytest.mark.parametrize(
    "changes", [{"author": person(2)}, {"guild_id": 2}, {"content": "something else"}, {"content": " "}]
)
def test_other_people_guilds_and_texts_do_not_add_up(changes: dict[str, Any]) -> None:
    """A repeat is of one text, by one person, in one guild; nothing at all is no text."""
    detector = Detector(DetectionRules(), re.compile)
    repeat(detector, 0, 1)
    assert repeat(detector, 2, **changes) == [False]
    if changes == {"content": " "}:
        assert repeat(detector, 3, 4, 5, **changes) == [False] * 3


def test_case_and_space_hide_no_repeat() -> None:
    """Texts are compared as people read them."""
    detector = Detector(DetectionRules(), re.compile)
    assert [repeat(detector, 0, content=text) for text in ("Buy now", "BUY  NOW", " buy\nnow ")][-1] == [True]


def test_the_longest_silent_is_forgotten_first() -> None:
    """The memory is bounded; whoever speaks stays in it."""
    detector = Detector(DetectionRules(remembered_authors=2), re.compile)
    repeat(detector, 0, 1, author=person(1))
    repeat(detector, 0, 1, author=person(2))
    repeat(detector, 2, author=person(1), content="x")
    repeat(detector, 2, author=person(3))
    assert repeat(detector, 3, author=person(1)) == [True]
    assert repeat(detector, 3, author=person(2)) == [False]


def test_who_is_silent_is_forgotten() -> None:
    """Once no message can repeat theirs any more: what is remembered follows the traffic, not the past."""
    detector = Detector(DetectionRules(repeat_window_ms=10_000), re.compile)
    for second in range(100):
        repeat(detector, second, author=person(second + 1))
    assert len(detector._recent) == 21
    repeat(detector, 99, 99, author=person(90))
    assert repeat(detector, 99, author=person(90)) == [True]
    repeat(detector, 1_000, author=person(1))
    assert len(detector._recent) == 1


def test_a_shard_that_catches_up_still_finds_repeats() -> None:
    """Its messages are older than those of the others, by less than a window."""
    detector = Detector(DetectionRules(repeat_window_ms=10_000), re.compile)
    repeat(detector, 15, 16, author=person(1))
    repeat(detector, 30, author=person(2))
    assert repeat(detector, 21, author=person(1)) == [True]
    assert len(detector._recent) == 2


@given(st.lists(st.text(max_size=40), max_size=10))
@example(["discord.gg/abc", "dlscord-gifts.com", "kys"])
def test_both_engines_find_the_same(contents: list[str]) -> None:
    """What the tests see with one is what runs with the other."""
    detectors = [Detector(DetectionRules(), engine) for engine in (re.compile, compile_pattern)]
    for content in contents:
        first, second = (detector.inspect(message(content=content)) for detector in detectors)
        assert first == second


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("hello\n  there", "hello there"),
        ("call 123456", "call 123456"),  # six digits may be a year and a month
        ("call 1234567", "call •••"),
        ("<@175928847299117063> hi", "<@•••> hi"),
        ("1234567 and 7654321", "••• and •••"),
        ("4111111111111111", "•••"),
        ("٠١٢٣٤٥٦٧", "•••"),  # digits of every script
        ("a\0b", "ab"),
        ("half \ud83d", "half \ufffd"),
        ("x" * 120, "x" * 120),
        ("x" * 121, "x" * 119 + "…"),
    ],
)
def test_what_moderators_see_of_a_text(content: str, shown: str) -> None:
    """One short line without long numbers."""
    assert excerpt(content) == shown


@given(st.text(st.characters()))
def test_an_excerpt_is_short_and_storable(content: str) -> None:
    """Whatever was written."""
    shown = excerpt(content)
    assert len(shown) <= EXCERPT_CHARS
    assert "\0" not in shown
    assert "\n" not in shown
    shown.encode()  # raises when there is half a character in it
    assert re.search(r"\d{7}", shown) is None


@given(st.text())
def test_equal_texts_have_equal_hashes(content: str) -> None:
    """Equal as the repeat rule compares them; other texts have others."""
    assert content_hash(content) == content_hash(f"  {normalised(content)} ")
    assert len(content_hash(content)) == 16
    assert content_hash(content) != content_hash(content + "x")


def test_rules_are_a_record() -> None:
    """They travel to runners, so they survive the way."""
    rules = DetectionRules(banned_words=("a",))
    assert msgspec.json.decode(msgspec.json.encode(rules), type=DetectionRules) == rules
