"""What a guild's people can set: its configuration, and the rules that its messages are held against."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Protocol, TypeVar, get_args

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, TypeAdapter

from domain.audit import Change
from domain.detection import DetectionRules
from domain.errors import GuildhallError
from domain.events import Action, Severity
from domain.json_numbers import WHOLE
from domain.time_zones import TIME_ZONES

MAX_RULES = 100
RULE_NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"

_HOST_NAME = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")


def _known_zone(name: str) -> str:
    if name not in TIME_ZONES:
        message = "is not a time zone as the IANA database names them, such as Europe/Berlin"
        raise ValueError(message)
    return name


def _visible(text: str) -> str:
    if not text.strip() or not text.isprintable():
        message = "must be text that can be seen"
        raise ValueError(message)
    return text


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        message = "must be a domain in small letters, such as example.com"
        raise ValueError(message)
    return text


TimeZone = Annotated[
    str, Field(max_length=64, json_schema_extra={"format": "time-zone"}), AfterValidator(_known_zone)
]
Word = Annotated[
    str,
    Field(min_length=1, max_length=60, json_schema_extra={"format": "visible-text"}),
    AfterValidator(_visible),
]
Domain = Annotated[
    str,
    Field(max_length=253, json_schema_extra={"pattern": f"^{_HOST_NAME.pattern}$"}),
    AfterValidator(_host_name),
]


_FromList = Strict(False)
"""JSON has no tuples; what is in them is held to its type all the same."""


class _Setting(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class GuildConfig(_Setting):
    """What holds for a guild as a whole. A field that is left out has its default."""

    timezone: TimeZone = "UTC"
    """In which the guild's days and hours are shown."""
    retention_days: Annotated[int, Field(ge=7, le=3650), WHOLE] = 365
    """After which violations are deleted for good; the network's own limit may be shorter."""


def _kind_is_required(schema: dict[str, Any]) -> None:
    schema["required"] = ["kind", *(name for name in schema.get("required", []) if name != "kind")]


class _Rule(_Setting):
    # It has a default for those who name the class; what comes as JSON is told apart by it.
    model_config = ConfigDict(json_schema_extra=_kind_is_required)

    enabled: bool = True
    severity: Severity
    action: Action = "delete"


class BannedWords(_Rule):
    """A message with one of these words breaks the rule, in whatever case."""

    kind: Literal["banned_word"] = "banned_word"
    severity: Severity = "medium"
    words: Annotated[tuple[Word, ...], _FromList, Field(min_length=1, max_length=500)]


class InviteLinks(_Rule):
    """A message with an invite to another server breaks the rule."""

    kind: Literal["invite_link"] = "invite_link"
    severity: Severity = "medium"
    allowed: Annotated[tuple[Word, ...], _FromList, Field(max_length=100)] = ()
    """Invite codes that are welcome."""


class PhishingLinks(_Rule):
    """A message with a link to one of these domains, or to a part of one, breaks the rule."""

    kind: Literal["phishing_link"] = "phishing_link"
    severity: Severity = "critical"
    domains: Annotated[tuple[Domain, ...], _FromList, Field(min_length=1, max_length=1_000)]


class MentionFlood(_Rule):
    """A message that mentions more people than this breaks the rule."""

    kind: Literal["mention_flood"] = "mention_flood"
    severity: Severity = "high"
    max_mentions: Annotated[int, Field(ge=1, le=100), WHOLE] = 5


class RepeatedMessage(_Rule):
    """The same text so often by one person within the window breaks the rule."""

    kind: Literal["repeated_message"] = "repeated_message"
    severity: Severity = "low"
    repeats: Annotated[int, Field(ge=2, le=16), WHOLE] = 3
    window_s: Annotated[int, Field(ge=5, le=600), WHOLE] = 30


AnyRule = BannedWords | InviteLinks | PhishingLinks | MentionFlood | RepeatedMessage
Rule = Annotated[AnyRule, Field(discriminator="kind")]

_any_rule: TypeAdapter[AnyRule] = TypeAdapter(Rule)


def default_rules() -> dict[str, AnyRule]:
    """Return the rules of a guild that has set none, by name."""
    rules = DetectionRules()
    return {
        "banned-words": BannedWords(words=rules.banned_words),
        "invite-links": InviteLinks(),
        "mention-flood": MentionFlood(max_mentions=rules.max_mentions),
        "phishing-links": PhishingLinks(domains=rules.phishing_domains),
        "repeats": RepeatedMessage(repeats=rules.repeats, window_s=rules.repeat_window_ms // 1000),
    }


S = TypeVar("S", bound=_Setting)


def read_config(stored: Any) -> GuildConfig:
    """Return a configuration as it was stored, perhaps by another release: what is not known is default."""
    return _understood(GuildConfig, stored if isinstance(stored, dict) else {})


def read_rule(stored: Any) -> AnyRule | None:
    """Return a rule as it was stored, or None when this release cannot understand it."""
    kinds = {get_args(kind.model_fields["kind"].annotation)[0]: kind for kind in get_args(AnyRule)}
    kind = kinds.get(stored.get("kind")) if isinstance(stored, dict) else None
    if kind is None:
        return None
    known = {name: value for name, value in stored.items() if name in kind.model_fields}
    try:
        return _any_rule.validate_python(known)
    except ValueError:
        return None


def _understood(kind: type[S], stored: dict[str, Any]) -> S:
    """Return what can be read of it, field by field."""
    setting = kind()
    for name in kind.model_fields.keys() & stored.keys():
        try:
            setting = kind(**setting.model_dump(exclude_unset=True), **{name: stored[name]})
        except ValueError:
            continue
    return setting


def what_changed(before: BaseModel | None, after: BaseModel | None) -> dict[str, Any]:
    """Return the fields that differ, as they were and as they are: what the audit log tells."""
    old = before.model_dump(mode="json") if before else {}
    new = after.model_dump(mode="json") if after else {}
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return {
        "before": {name: old[name] for name in names if name in old},
        "after": {name: new[name] for name in names if name in new},
    }


class StoredConfig(msgspec.Struct, frozen=True):
    """A guild's configuration; version 0 is the default that nobody has changed yet.

    Versions grow and never repeat, not even after the database was restored to an earlier time.
    """

    config: GuildConfig
    version: int = 0
    updated_by: int | None = None
    updated_at_ms: int | None = None


class StoredRule(msgspec.Struct, frozen=True):
    """A rule of a guild; version 0 is a default that nobody has changed yet."""

    name: str
    rule: AnyRule
    version: int = 0
    updated_by: int | None = None
    updated_at_ms: int | None = None


class NoSuchRule(GuildhallError):
    """The guild has no rule of that name."""


class TooManyRules(GuildhallError):
    """A guild can have a bounded number of rules."""


class GuildSettingsStore(Protocol):
    """Where settings are kept. All calls raise ``StoreUnavailable`` when the database is away.

    A change names the version that it was made from: one that is not the newest raises ``VersionConflict``
    and changes nothing. Each change is in the audit log, in its own transaction.
    """

    async def config(self, guild_id: int) -> StoredConfig:
        """Return the configuration, the default if there is none."""
        ...

    async def write_config(
        self, guild_id: int, config: GuildConfig, *, from_version: int, change: Change
    ) -> StoredConfig:
        """Replace the configuration."""
        ...

    async def rules(self, guild_id: int) -> list[StoredRule]:
        """Return the rules by name: the guild's own, and the defaults that it has not replaced."""
        ...

    async def write_rule(
        self, guild_id: int, name: str, rule: AnyRule, *, from_version: int, change: Change
    ) -> StoredRule:
        """Make or replace a rule. Raises ``TooManyRules``."""
        ...

    async def delete_rule(
        self, guild_id: int, name: str, *, from_version: int | None, change: Change
    ) -> None:
        """Take a guild's own rule away; a default of that name holds again. Raises ``NoSuchRule``."""
        ...
