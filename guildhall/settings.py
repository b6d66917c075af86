"""The settings: ``GUILDHALL_*`` in the environment or a ``.env`` file, checked as a whole at start."""

from __future__ import annotations

import contextlib
import random
import socket
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from actors.guild import MAX_REPLAY_BYTES
from adapters.rate_limiter import allowance, require_rate
from adapters.sealing import Sealer
from domain.errors import ConfigurationInvalid
from domain.ids import parse_snowflake
from domain.rates import Rates
from domain.sessions import MAX_SESSIONS
from domain.socket_limits import Allowance, SocketLimits
from guildhall.haproxy_rules import DoorLimits

_REPOSITORY = Path(__file__).resolve().parent.parent


def _user_ids(given: object) -> object:
    """Read a list of Discord user ids with commas between them."""
    if not isinstance(given, str):
        return given
    ids = {part.strip(): parse_snowflake(part.strip()) for part in given.split(",") if part.strip()}
    if wrong := [part for part, user_id in ids.items() if user_id is None]:
        raise ValueError(f"{wrong[0]!r} is no Discord user id")
    return frozenset(ids.values())


def _networks(given: object) -> object:
    """Read a list of addresses and networks with commas between them."""
    if not isinstance(given, str):
        return given
    networks = tuple(part.strip() for part in given.split(",") if part.strip())
    for network in networks:
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"{network!r} is neither an address nor a network") from None
    return networks


class Settings(BaseSettings):
    """What can be set. Command line options outweigh the environment."""

    model_config = SettingsConfigDict(env_prefix="GUILDHALL_", env_file=".env", extra="ignore")

    host: str = "127.0.0.1"
    """The address that the front door listens on."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    public_url: str | None = None
    """Where people reach the dashboard, if not at host and port."""
    data_dir: Path = Path(".guildhall")
    """Where the embedded services keep their data."""
    spool_dir: Path | None = None
    """Where shard runners keep what no host has taken yet: on a local disk, by default in ``data_dir``."""
    spool_max_bytes: Annotated[int, Field(ge=1 << 20)] = 256 << 20
    """How much one runner keeps there; beyond it the oldest goes, and the dashboard says so."""
    database_url: SecretStr | None = None
    """Postgres; without one, Guildhall runs its own."""
    redis_url: SecretStr | None = None
    """Redis; without one, Guildhall runs its own."""

    discord_token: SecretStr | None = None
    discord_client_id: str | None = None
    discord_client_secret: SecretStr | None = None
    discord_api_base: str = "https://discord.com/api/v10"
    discord_authorize_url: str = "https://discord.com/oauth2/authorize"
    shards: Annotated[int, Field(ge=1)] | None = None
    """Shards of the whole network; without a number, as many as Discord recommends."""

    retention_days: Annotated[int, Field(ge=7, le=3650)] = 365
    """For how long violations are kept, and their counts; servers can choose less for themselves."""
    hosts: Annotated[int, Field(ge=1, le=256)] = 2
    shards_per_runner: Annotated[int, Field(ge=1, le=64)] = 16
    user_resolvers: Annotated[int, Field(ge=1, le=64)] = 2
    """Actors that find out who is behind an id, each for its share of the people."""
    api_replicas: Annotated[int, Field(ge=1, le=64)] = 1
    relay_replicas: Annotated[int, Field(ge=1, le=64)] = 1
    live_tick_ms: Annotated[int, Field(ge=0, le=1_000)] = 25
    """A relay that has much to write rests between writes for so long at most, and events of a server that
    come meanwhile share a WebSocket frame. An event that comes alone never waits. With 0 there are no rests,
    and each event has its own frame."""

    operators: Annotated[frozenset[int], NoDecode, BeforeValidator(_user_ids)] = frozenset()
    """Discord user ids, with commas between them, of those who operate this installation."""

    secret_keys: SecretStr | None = None
    """Seal Discord's tokens in Redis: keys with commas between them. The first seals, all open; without one
    Guildhall makes its own. ``openssl rand -base64 32 | tr '+/' '-_'`` prints a key."""
    trusted_proxies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_networks)] = ("127.0.0.1", "::1")
    """Addresses and networks, with commas between them, that are believed when they say who asks
    (``X-Forwarded-For``). HAProxy stands on loopback; name what stands before it."""

    limit_reads: Annotated[str, AfterValidator(require_rate)] = Rates().reads
    """How often one person may look at something, over all replicas."""
    limit_changes: Annotated[str, AfterValidator(require_rate)] = Rates().changes
    """How often one person may change something."""
    limit_logins: Annotated[str, AfterValidator(require_rate)] = Rates().logins
    """How often somebody may come to log in or back from Discord, from one address: two each login."""
    limit_strangers: Annotated[str, AfterValidator(require_rate)] = Rates().strangers
    """How often one address may ask for something without being logged in."""
    limit_handshakes: Annotated[str, AfterValidator(require_rate)] = Rates().handshakes
    """How often one person may open a WebSocket."""
    limit_sockets: Annotated[int, Field(ge=1, le=10_000)] = SocketLimits().sockets
    """How many WebSockets one person may have open, over all relays."""
    limit_sockets_per_address: Annotated[int, Field(ge=1, le=1_000_000)] = SocketLimits().sockets_per_address
    """How many WebSockets one address may have open, at each relay."""
    limit_messages: Annotated[str, AfterValidator(require_rate)] = "120 per minute"
    """How often one WebSocket may say something: so often at once, and then as it comes back."""
    limit_subscribes: Annotated[str, AfterValidator(require_rate)] = "240 per minute"
    """How often one person may subscribe, at each relay."""
    limit_replay_bytes: Annotated[int, Field(ge=MAX_REPLAY_BYTES)] = SocketLimits().replay_bytes.amount
    """How many bytes of missed events one person may have replayed in a minute, at each relay."""
    idle_socket_s: Annotated[float, Field(ge=1.0, le=86_400.0)] = SocketLimits().idle_s
    """A WebSocket that watches no server for so long is closed."""
    limit_sessions: Annotated[int, Field(ge=1, le=1_000)] = MAX_SESSIONS
    """How many sessions one person may have; with one more, the oldest ends."""

    limit_connections: Annotated[int, Field(ge=1, le=100_000)] = DoorLimits().connections
    """How many connections one address may hold at once, WebSockets included."""
    limit_requests: Annotated[str, AfterValidator(require_rate)] = DoorLimits().requests
    """How often one address may ask for anything, also for what is not there."""
    limit_burst: Annotated[str, AfterValidator(require_rate)] = DoorLimits().burst
    """The same within a second."""
    limit_requests_at_once: Annotated[int, Field(ge=1, le=100_000)] = DoorLimits().at_once
    """How many requests of one address the replicas may have in hands, WebSockets aside."""
    limit_refusals: Annotated[str, AfterValidator(require_rate)] = DoorLimits().refusals
    """How often replicas refuse one address something; then the front door does."""
    limit_probes: Annotated[str, AfterValidator(require_rate)] = DoorLimits().probes
    """How often one address may look at ``/health`` and ``/metrics``."""
    limit_header_bytes: Annotated[int, Field(ge=1 << 10, le=12 << 10)] = DoorLimits().header_bytes
    """How large the headers of a request may be together; its address may have half of it."""
    limit_body_bytes: Annotated[int, Field(ge=1 << 10, le=1 << 20)] = DoorLimits().body_bytes
    """How large a body may be."""
    request_timeout_s: Annotated[int, Field(ge=1, le=300)] = DoorLimits().request_timeout_s
    """How long a request may take to arrive."""
    client_timeout_s: Annotated[int, Field(ge=1, le=3_600)] = DoorLimits().client_timeout_s
    """How long a client may neither send nor take what is under way."""
    keep_alive_timeout_s: Annotated[int, Field(ge=1, le=3_600)] = DoorLimits().keep_alive_timeout_s
    """How long a connection may wait for its next request."""
    socket_timeout_s: Annotated[int, Field(ge=75, le=86_400)] = DoorLimits().socket_timeout_s
    """How long a WebSocket may stand with nothing moving; relays ping after 30 seconds and wait 30 more."""

    static_dir: Path = _REPOSITORY / "web" / "dist"

    @property
    def door_limits(self) -> DoorLimits:
        """What the front door counts and refuses."""
        return DoorLimits(
            connections=self.limit_connections,
            requests=self.limit_requests,
            burst=self.limit_burst,
            at_once=self.limit_requests_at_once,
            refusals=self.limit_refusals,
            probes=self.limit_probes,
            header_bytes=self.limit_header_bytes,
            body_bytes=self.limit_body_bytes,
            request_timeout_s=self.request_timeout_s,
            client_timeout_s=self.client_timeout_s,
            keep_alive_timeout_s=self.keep_alive_timeout_s,
            socket_timeout_s=self.socket_timeout_s,
            trusted_proxies=self.trusted_proxies,
            behind_tls=self.url.startswith("https://"),
        )

    @property
    def rates(self) -> Rates:
        """How often somebody may ask."""
        return Rates(
            reads=self.limit_reads,
            changes=self.limit_changes,
            logins=self.limit_logins,
            strangers=self.limit_strangers,
            handshakes=self.limit_handshakes,
        )

    @property
    def socket_limits(self) -> SocketLimits:
        """How much of a relay may be taken."""
        return SocketLimits(
            sockets=self.limit_sockets,
            sockets_per_address=self.limit_sockets_per_address,
            messages=allowance(self.limit_messages),
            subscribes=allowance(self.limit_subscribes),
            replay_bytes=Allowance(self.limit_replay_bytes),
            idle_s=self.idle_socket_s,
        )

    @property
    def spool_folder(self) -> Path:
        """The folder of the spools, absolute: runners have working folders of their own."""
        return (self.spool_dir or self.data_dir / "spool").expanduser().absolute()

    @property
    def door(self) -> str:
        """Host and port of the front door, as this machine itself reaches it."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return f"{_in_url(everywhere.get(self.host, self.host))}:{self.port}"

    @property
    def url(self) -> str:
        """Where people reach the dashboard, without a slash at the end."""
        return _as_browsers_say(self.public_url or f"http://{_in_url(self.host)}:{self.port}")


def load_settings(**given: object) -> Settings:
    """Read the settings; what is given and not None outweighs the environment.

    Raises:
        ConfigurationInvalid: with one sentence a setting, saying what to do.

    """
    try:
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        settings = Settings(**chosen)
    except ValidationError as error:
        problems = [f"GUILDHALL_{_name(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise ConfigurationInvalid("; ".join(problems) + ".") from error
    if settings.public_url is not None:
        _check_public_url(settings.public_url)
    if settings.secret_keys is not None:
        _check_secret_keys(split_keys(secret_of(settings.secret_keys)))
    if not (settings.static_dir / "index.html").is_file():
        raise ConfigurationInvalid(
            f"The dashboard's page is not built ({settings.static_dir} has no index.html): run `make web`."
        )
    return settings


def _check_public_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/")
        parts.port  # noqa: B018 - raises when it is no number
    except ValueError:
        well = False
    if not well:
        raise ConfigurationInvalid(
            "GUILDHALL_PUBLIC_URL must be http:// or https://, a host, perhaps a port, and no path."
        )


def _check_secret_keys(keys: tuple[str, ...]) -> None:
    try:
        Sealer(keys)
    except ConfigurationInvalid as error:
        raise ConfigurationInvalid(f"GUILDHALL_SECRET_KEYS: {error}") from error


def split_keys(given: str) -> tuple[str, ...]:
    """Return the keys of a list with commas or white space between them."""
    return tuple(given.replace(",", " ").split())


def secret_of(value: SecretStr | None) -> str:
    """Return a secret in the clear, for where it is used; nothing when there is none."""
    return value.get_secret_value() if value else ""


def require_discord(settings: Settings) -> None:
    """Check what only real Discord needs; raise ``ConfigurationInvalid`` naming all that is missing."""
    missing = [
        name
        for name, value in (
            ("GUILDHALL_DISCORD_TOKEN", settings.discord_token),
            ("GUILDHALL_DISCORD_CLIENT_ID", settings.discord_client_id),
            ("GUILDHALL_DISCORD_CLIENT_SECRET", settings.discord_client_secret),
        )
        if not value
    ]
    if missing:
        raise ConfigurationInvalid(
            f"{', '.join(missing)} must be set: copy them from your application's page in Discord's "
            "developer portal. To look around without Discord, run `guildhall demo`."
        )


def require_free_port(host: str, port: int) -> None:
    """Check that the front door's port can be taken; raise ``ConfigurationInvalid`` if not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationInvalid(
                f"Port {port} on {host} cannot be used ({error.strerror}): "
                "stop what listens there, or choose another with --port."
            ) from error


def free_port() -> int:
    """Return a port on loopback that nobody listens on, and that no outgoing connection takes meanwhile."""
    # Kernels give outgoing connections ports from 32768 on, and Ray its workers those below 20000.
    for port in random.SystemRandom().sample(range(20_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise ConfigurationInvalid("Every port that was tried is in use: stop something that listens on many.")


def _as_browsers_say(url: str) -> str:
    """Return scheme, host and port as a browser names an origin: that is what it is compared with."""
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}[parts.scheme]
    port = "" if parts.port in (None, usual) else f":{parts.port}"
    return f"{parts.scheme}://{_in_url(parts.hostname or '')}{port}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _name(location: tuple[int | str, ...]) -> str:
    return "_".join(str(part) for part in location).upper()
