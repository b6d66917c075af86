"""What people say: templates and the words that fill them, clean and offending."""

from __future__ import annotations

import random
from collections import deque

OPENERS = tuple(
    """
anyone up for {game} tonight?
just finished {project}, pretty happy with it
what's everyone having for {meal}?
my {pet} just knocked over my {thing} again
does anyone know a good {thing} under {number} bucks?
{show} episode {number} was wild, no spoilers please
good {time} everyone
ok who else is still awake
I have {number} tabs open and I regret nothing
finally fixed that bug in my {project}, only took {number} hours
hot take: {game} is better than {game2}
the weather here is {adj} today
how do you all stay focused on {project}?
new {thing} arrived today, it is so {adj}
reminder that the event starts at {hour}
is the {thing} sale still on?
I made {meal} and it turned out {adj}
my {thing} died after {number} years, rest in peace
can someone help me with my {project}? stuck on the last step
day {number} of learning {skill}
what are you listening to while working on {project}?
{pet} tax, as promised
we should do a {game} evening again
thinking of getting into {skill}, where do I start?
back after {number} days, what did I miss?
""".strip().splitlines()
)
REPLIES = tuple(
    """
haha same
no way, really?
that's {adj}
I'd go with the other {thing} honestly
count me in, around {hour}?
can't tonight, tomorrow works though
{number} hours?? you are patient
try restarting the {thing} first
I had the same problem with my {project}
wait, since when?
ok that's actually {adj}
lol my {pet} does that too
agreed, {game} aged really well
pics or it didn't happen
thanks, that helped a lot
depends, what's your budget?
I think {hour} is fine for most of us
brb, making {meal}
oh nice, how long did that take?
yeah the {adj} one
not sure about that, I tried it {number} times
congrats!! 🎉
you should post it in the showcase channel
honestly {skill} changed how I think about it
sounds {adj}, I'm in
hmm let me check
still better than {game2}
good point
I'll bring snacks
welcome back!
same here, except with {number} more steps
took me {number} tries
""".strip().splitlines()
)
TAILS = (
    "",
    "",
    "",
    "",
    " lol",
    " :)",
    " 😄",
    " tbh",
    " haha",
    " 🙌",
    " ngl",
    "!",
    " 👀",
    " imo",
    " ^^",
    "...",
)
WORDS: dict[str, tuple[str, ...]] = {
    "game": (
        "Stardew", "Factorio", "Celeste", "chess", "Tetris", "Hades", "Mario Kart", "Catan", "Civ",
        "Deep Rock",
    ),
    "game2": (
        "Pong", "Snake", "Minesweeper", "solitaire", "the sequel", "the remake", "the original",
        "the demo",
    ),
    "project": (
        "shader", "website", "home server", "compiler", "garden", "keyboard build", "short film", "mod",
        "thesis",
    ),
    "meal": (
        "breakfast", "lunch", "ramen", "curry", "pancakes", "tacos", "dumplings", "pizza", "soup",
        "fresh bread",
    ),
    "pet": (
        "cat", "dog", "rabbit", "parrot", "hamster", "gecko", "ferret", "tortoise",
    ),
    "thing": (
        "mug", "mouse", "headset", "lamp", "chair", "webcam", "monitor", "router", "notebook",
        "microphone",
    ),
    "show": (
        "the finale", "that new anime", "the baking show", "the detective series", "the space thing",
    ),
    "time": (
        "morning", "evening", "afternoon", "night",
    ),
    "adj": (
        "great", "so cozy", "weirdly good", "loud", "way too bright", "perfect", "a bit much", "lovely",
        "chaotic",
    ),
    "skill": (
        "piano", "Rust", "watercolor", "Japanese", "juggling", "woodworking", "Blender",
        "chess openings",
    ),
}  # fmt: skip

PHISHING_DOMAINS = (
    "dlscord-gifts.com",
    "discorcl-nitro.gift",
    "steamcommunlty.com",
    "free-nitro-claim.xyz",
)
_PHISHING_PATHS = ("nitro", "gift", "claim", "redeem", "tradeoffer/new", "airdrop")
_PHISHING = (
    "free nitro for everyone, claim fast {url}",
    "@everyone steam is giving away skins {url}",
    "hey is this you in the screenshot? {url}",
    "I got 3 months for free here {url} hurry",
    "guys it really works {url}",
)
_INVITES = (
    "join my server {url}",
    "way better community here: {url}",
    "giveaway only on {url} !!",
    "come play with us {url}",
    "new server, need members {url}",
)
_INVITE_FORMS = ("discord.gg/{code}", "https://discord.gg/{code}", "https://discord.com/invite/{code}")
_BANNED = (
    "you absolute {word}",
    "shut up {word}",
    "just {word} already",
    "what a {word} move, {adj} really",
    "{word} like you ruin this server",
    "nobody asked, {word}",
)
_BANNED_WORDS = ("scumbag", "Scumbag", "SCUMBAG", "kys", "KYS", "Kys")
_FLOODS = ("wake up", "look at this", "answer me", "where are you all", "come online now")
_SPAM = (
    "SELLING GOLD CHEAP dm me",
    "sub to my channel please",
    "first 10 people get a prize, dm me",
    "vote for me in the contest",
    "spam spam spam",
    "RAID THIS CHANNEL",
)
# No k: a random code must never spell a banned word.
_CODE = "abcdefghjmnpqrstuvwxyzABCDEFGHJMNPQRSTUVWXYZ23456789"


class _Filling(dict[str, str]):
    """Chooses a word for whatever a template asks, when it asks."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def __missing__(self, key: str) -> str:
        match key:
            case "number":
                return str(self._rng.randrange(2, 60))
            case "hour":
                return f"{self._rng.randrange(1, 13)}{self._rng.choice(('', ':15', ':30', ':45'))}pm"
            case _:
                return self._rng.choice(WORDS[key])


class Phrasebook:
    """Makes texts from a seeded generator; clean ones come from clean words only."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._filling = _Filling(rng)

    def clean(self, *, opening: bool) -> str:
        """Return something one may say; an opening starts a conversation."""
        template = self._rng.choice(OPENERS if opening else REPLIES)
        return template.format_map(self._filling) + self._rng.choice(TAILS)

    def invite_link(self) -> str:
        """Return an advertisement for another server."""
        url = self._rng.choice(_INVITE_FORMS).format(code=self._code(8))
        return self._rng.choice(_INVITES).format(url=url)

    def phishing_link(self) -> str:
        """Return a lure with a look-alike domain."""
        domain, path = self._rng.choice(PHISHING_DOMAINS), self._rng.choice(_PHISHING_PATHS)
        suffix = self._rng.choice(("", f"?ref={self._code(5)}"))
        url = f"https://{domain}/{path}{suffix}"
        return self._rng.choice(_PHISHING).format(url=url)

    def banned_word(self) -> str:
        """Return an insult."""
        template = self._rng.choice(_BANNED)
        return template.format(word=self._rng.choice(_BANNED_WORDS), adj=self._rng.choice(WORDS["adj"]))

    def mention_flood(self, mention_ids: list[int]) -> str:
        """Return a shout at everyone in the list."""
        shouted = " ".join(f"<@{user_id}>" for user_id in mention_ids)
        return f"{shouted} {self._rng.choice(_FLOODS)}"

    def repeated(self) -> str:
        """Return a line someone is about to post again and again."""
        return f"{self._rng.choice(_SPAM)} {self._rng.choice(('!!', '>>>', '🔥', '$$$'))}"

    def distinct(self, text: str) -> str:
        """Return a text made different from what was said before."""
        return f"{text} ({self._code(4)})"

    def _code(self, length: int) -> str:
        return "".join(self._rng.choices(_CODE, k=length))


def normal_form(text: str) -> str:
    """Return a text as a repetition is recognised: case folded, white space collapsed."""
    return " ".join(text.casefold().split())


class RecentTexts:
    """Who said what lately, so that clean texts are never a repetition."""

    def __init__(self, horizon_s: float) -> None:
        self._horizon_s = horizon_s
        self._order: deque[tuple[float, tuple[int, int, str]]] = deque()
        self._times: dict[tuple[int, int, str], list[float]] = {}

    def count(self, guild_id: int, author_id: int, text: str, now: float, within_s: float) -> int:
        """Return how often the author said this in the guild within so many seconds."""
        self._forget(now)
        times = self._times.get((guild_id, author_id, normal_form(text)), ())
        return sum(1 for said_at in times if now - said_at <= within_s)

    def add(self, guild_id: int, author_id: int, text: str, now: float) -> None:
        """Remember a text."""
        key = (guild_id, author_id, normal_form(text))
        self._order.append((now, key))
        self._times.setdefault(key, []).append(now)

    def _forget(self, now: float) -> None:
        while self._order and now - self._order[0][0] > self._horizon_s:
            _, key = self._order.popleft()
            times = self._times[key]
            times.pop(0)
            if not times:
                del self._times[key]
