"""What Discord's REST API answers, believed only in the shape that Discord gives it.

What answers may be something else: a proxy's page, a portal, an attacker on the way. Whatever it says, the
outcome is one error of ours, and nothing gets through that a store or a header could not take.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from domain.errors import DiscordBusy
from domain.ids import SNOWFLAKE_PATTERN
from domain.text import storable

T = TypeVar("T")

CDN = "https://cdn.discordapp.com"
MAX_BYTES = 1 << 20
"""A person's 200 guilds take a tenth of it."""
BUSY_S = 1.0
"""How long to wait when Discord does not say."""
MAX_BUSY_S = 3600.0
MAX_EXPIRY_MS = 2**53
"""What every reader of JSON takes for a whole number, 280,000 years away."""

Id = Annotated[str, msgspec.Meta(pattern=SNOWFLAKE_PATTERN, max_length=19)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
"""Twice as long as Discord lets any name be."""
Picture = Annotated[str, msgspec.Meta(max_length=200)]
Bits = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9][0-9]{0,17})$")]
"""Permissions. Discord gives out the 52nd bit; of these 59 any may be."""
Secret = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,2000}$")]
"""A token, as it can stand in a header."""

_PICTURE = re.compile(r"(a_)?[0-9a-f]{32}", re.ASCII)


class NotDiscord(ValueError):
    """What answered was not Discord."""


class User(msgspec.Struct):
    """A person."""

    id: Id
    username: Name
    global_name: Name | None = None
    avatar: Picture | None = None

    @property
    def shown_name(self) -> str:
        """The name that the person chose, or the one that they have."""
        return storable(self.global_name or self.username)

    @property
    def avatar_url(self) -> str | None:
        """Where their picture is."""
        return picture_url("avatars", self.id, self.avatar)


class Guild(msgspec.Struct):
    """A guild that a person is in."""

    id: Id
    name: Name
    icon: Picture | None = None
    owner: bool = False
    permissions: Bits = "0"


class MemberRoles(msgspec.Struct):
    """A member, as far as their roles go."""

    roles: list[Id]


class MemberId(msgspec.Struct):
    """Whose membership it is."""

    id: Id


class ListedMember(msgspec.Struct):
    """A member in a list of them, as far as their roles go."""

    user: MemberId
    roles: list[Id]


class Role(msgspec.Struct):
    """A role of a guild."""

    id: Id


class TokenAnswer(msgspec.Struct):
    """A pair of tokens, with when the first one ends in seconds of Unix time."""

    access_token: Secret
    refresh_token: Secret
    expires_at: Annotated[int, msgspec.Meta(ge=0, le=MAX_EXPIRY_MS // 1000)]


class Refusal(msgspec.Struct):
    """Why there is no answer."""

    code: int | None = None
    """What Discord means; a proxy's page has none. 0 where the status says it all."""
    retry_after: float | None = None
    everywhere: bool = msgspec.field(name="global", default=False)
    """Whether ``retry_after`` holds for every request of this token, not only for this kind."""


class SessionStartLimit(msgspec.Struct):
    """How often a bot may connect."""

    max_concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    remaining: Annotated[int, msgspec.Meta(ge=0, le=2**31)]


class Gateway(msgspec.Struct):
    """How a bot connects."""

    url: Annotated[str, msgspec.Meta(pattern=r"^wss?://[\x21-\x7e]{1,500}$")]
    shards: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    session_start_limit: SessionStartLimit


def read(content: bytes, kind: type[T]) -> T:
    """Return an answer as what it should be.

    Raises:
        NotDiscord: it is something else.

    """
    if len(content) > MAX_BYTES:
        raise NotDiscord
    try:
        # Not by msgspec alone: names may hold halves of characters, which it refuses.
        return take(json.loads(content), kind)
    except (ValueError, RecursionError) as error:
        raise NotDiscord from error


def take(answer: Any, kind: type[T]) -> T:
    """Return an answer that was parsed already as what it should be. Raises what :func:`read` does."""
    try:
        return msgspec.convert(answer, kind)
    except (ValueError, RecursionError) as error:
        raise NotDiscord from error


def busy(retry_after_s: float | None, *, everywhere: bool = True) -> DiscordBusy:
    """Return the error that says for how long nothing may be asked, whatever Discord said of it."""
    if retry_after_s is None or not math.isfinite(retry_after_s):
        retry_after_s = BUSY_S
    return DiscordBusy(retry_after_s=min(max(retry_after_s, 0.0), MAX_BUSY_S), everywhere=everywhere)


def busy_by(content: bytes, headers: Mapping[str, str]) -> DiscordBusy:
    """Return the error that a 429 stands for. Cloudflare's, which is no JSON, is for everything."""
    try:
        refusal = read(content, Refusal)
    except NotDiscord:
        return busy(_seconds(headers.get("retry-after")))
    return busy(refusal.retry_after, everywhere=refusal.everywhere)


def exhausted_s(headers: Mapping[str, str]) -> float:
    """Return for how many seconds nothing of the kind may be asked after an answer with these headers."""
    if headers.get("x-ratelimit-remaining") != "0":
        return 0.0
    return busy(_seconds(headers.get("x-ratelimit-reset-after"))).retry_after_s


def _seconds(said: str | None) -> float | None:
    try:
        return None if said is None else float(said)
    except ValueError:
        return None


def picture_url(kind: str, owner_id: str, picture: str | None) -> str | None:
    """Return where a picture is, if it is one: nothing else is put into an address."""
    if picture is None or not _PICTURE.fullmatch(picture):
        return None
    return f"{CDN}/{kind}/{owner_id}/{picture}.png?size=64"
