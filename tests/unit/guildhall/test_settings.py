from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from domain.errors import ConfigurationInvalid
from domain.rates import Rates
from domain.socket_limits import Allowance, SocketLimits
from guildhall.haproxy_rules import DoorLimits
from guildhall.settings import (
    Settings,
    free_port,
    load_settings,
    require_discord,
    require_free_port,
    secret_of,
    split_keys,
)

KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but a page that is built."""
    for name in [name for name in os.environ if name.startswith("GUILDHALL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "index.html").touch()
    monkeypatch.setenv("GUILDHALL_STATIC_DIR", str(tmp_path))


def test_nothing_need_be_set() -> None:
    """On this machine, embedded services, port 8000."""
    settings = load_settings()
    assert (settings.url, settings.door) == ("http://127.0.0.1:8000", "127.0.0.1:8000")
    assert settings.database_url is None
    assert settings.redis_url is None


def test_what_is_given_outweighs_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And None is not given."""
    monkeypatch.setenv("GUILDHALL_PORT", "9000")
    assert load_settings(port=None).port == 9000
    assert load_settings(port=9001).port == 9001


def test_a_file_is_read_too(tmp_path: Path) -> None:
    """A ``.env`` beside the process; strangers in it are not ours to judge."""
    (tmp_path / ".env").write_text("GUILDHALL_HOSTS=3\nOTHER=1\n")
    assert load_settings().hosts == 3


def test_lists_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses, networks and keys; the usual proxy is HAProxy on loopback, and nobody may be trusted."""
    assert load_settings().trusted_proxies == ("127.0.0.1", "::1")
    monkeypatch.setenv("GUILDHALL_TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8 ,2001:db8::/32")
    assert load_settings().trusted_proxies == ("127.0.0.1", "10.0.0.0/8", "2001:db8::/32")
    monkeypatch.setenv("GUILDHALL_TRUSTED_PROXIES", "")
    assert load_settings().trusted_proxies == ()
    monkeypatch.setenv("GUILDHALL_SECRET_KEYS", f"{KEY}, {KEY}")
    settings = load_settings()
    assert split_keys(secret_of(settings.secret_keys)) == (KEY, KEY)
    assert KEY not in repr(settings)


def test_rates_are_written_as_people_say_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself; what is not set is as usual."""
    assert load_settings().rates == Rates()
    monkeypatch.setenv("GUILDHALL_LIMIT_LOGINS", "5/minute")
    monkeypatch.setenv("GUILDHALL_LIMIT_HANDSHAKES", "6/minute")
    assert load_settings().rates == Rates(logins="5/minute", handshakes="6/minute")


def test_the_front_door_is_told_each_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not set is as usual; none is forgotten on the way."""
    assert load_settings().door_limits == DoorLimits()
    rates = {name: f"{number} per hour" for number, name in enumerate(("burst", "refusals", "probes"), 1)}
    wanted = DoorLimits(
        connections=1,
        requests="2 per minute",
        at_once=2,
        **rates,
        header_bytes=2_000,
        body_bytes=3_000,
        request_timeout_s=4,
        client_timeout_s=5,
        keep_alive_timeout_s=6,
        socket_timeout_s=80,
        trusted_proxies=("10.0.0.1",),
        behind_tls=True,
    )
    monkeypatch.setenv("GUILDHALL_LIMIT_REQUESTS_AT_ONCE", "2")
    for name in ("connections", "requests", "header_bytes", "body_bytes", *rates):
        monkeypatch.setenv(f"GUILDHALL_LIMIT_{name.upper()}", str(getattr(wanted, name)))
    for name in ("request", "client", "keep_alive", "socket"):
        monkeypatch.setenv(f"GUILDHALL_{name.upper()}_TIMEOUT_S", str(getattr(wanted, f"{name}_timeout_s")))
    monkeypatch.setenv("GUILDHALL_TRUSTED_PROXIES", "10.0.0.1")
    monkeypatch.setenv("GUILDHALL_PUBLIC_URL", "https://example.org")
    assert load_settings().door_limits == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "eighty"),
        ("HOSTS", "0"),
        ("HOSTS", "257"),
        ("SHARDS", "0"),
        ("SHARDS_PER_RUNNER", "65"),
        ("API_REPLICAS", "0"),
        ("RELAY_REPLICAS", "-1"),
        ("PUBLIC_URL", "example.org"),
        ("PUBLIC_URL", "ftp://example.org"),
        ("PUBLIC_URL", "https://example.org/guildhall"),
        ("PUBLIC_URL", "https://example.org:port"),
        ("PUBLIC_URL", "https://"),
        ("SECRET_KEYS", "short"),
        ("SECRET_KEYS", f"{KEY},{KEY[:-1]}"),
        ("SECRET_KEYS", " , "),
        ("TRUSTED_PROXIES", "proxy.example.org"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,10.0.0.1/8"),
        ("LIMIT_READS", "often"),
        ("LIMIT_CHANGES", "0 per minute"),
        ("LIMIT_LOGINS", "-1 per minute"),
        ("LIMIT_STRANGERS", "10 per fortnight"),
        ("LIMIT_REQUESTS", "0 per second"),
        ("LIMIT_BURST", "0 per second"),
        ("LIMIT_REQUESTS_AT_ONCE", "0"),
        ("LIMIT_REFUSALS", "often"),
        ("LIMIT_PROBES", "none"),
        ("LIMIT_CONNECTIONS", "0"),
        ("LIMIT_HEADER_BYTES", "16384"),
        ("LIMIT_BODY_BYTES", "2097152"),
        ("REQUEST_TIMEOUT_S", "0"),
        ("CLIENT_TIMEOUT_S", "3601"),
        ("KEEP_ALIVE_TIMEOUT_S", "soon"),
        ("SOCKET_TIMEOUT_S", "60"),
    ],
)
def test_a_bad_value_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """It names the setting, fits a line, and shows no Python."""
    monkeypatch.setenv(f"GUILDHALL_{name}", value)
    with pytest.raises(ConfigurationInvalid, match=f"GUILDHALL_{name}") as caught:
        load_settings()
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert "pydantic" not in sentence


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("https://Mods.Example.ORG:443/", "https://mods.example.org"),
        ("http://example.org:80", "http://example.org"),
        ("https://example.org:8443", "https://example.org:8443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_the_public_address_is_what_browsers_call_it(
    monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    """An Origin header is compared with it."""
    monkeypatch.setenv("GUILDHALL_PUBLIC_URL", given)
    assert load_settings().url == said


def test_all_bad_values_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody likes to find them one start after the other."""
    monkeypatch.setenv("GUILDHALL_PORT", "0")
    monkeypatch.setenv("GUILDHALL_HOSTS", "0")
    with pytest.raises(ConfigurationInvalid, match=r"GUILDHALL_PORT.*GUILDHALL_HOSTS"):
        load_settings()


def test_a_page_that_is_not_built_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that builds it."""
    monkeypatch.setenv("GUILDHALL_STATIC_DIR", "/nowhere")
    with pytest.raises(ConfigurationInvalid, match="make web"):
        load_settings()


def test_discord_needs_all_three() -> None:
    """Only those that are missing are named."""
    settings = Settings(discord_token="t")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationInvalid, match=r"^GUILDHALL_DISCORD_CLIENT_ID, GUILDHALL_DISCORD_CLIENT"):
        require_discord(settings)
    whole = Settings(discord_token="t", discord_client_id="1", discord_client_secret="s")  # type: ignore[arg-type]
    require_discord(whole)


def test_secrets_are_not_printed() -> None:
    """Neither in a log nor in a traceback."""
    settings = Settings(discord_token="hush", database_url="postgresql://u:hush@h/d")  # type: ignore[arg-type]
    assert "hush" not in repr(settings)
    assert secret_of(settings.discord_token) == "hush"
    assert secret_of(None) == ""


@pytest.mark.parametrize(
    ("host", "url", "door"),
    [
        ("0.0.0.0", "http://0.0.0.0:8000", "127.0.0.1:8000"),
        ("::", "http://[::]:8000", "[::1]:8000"),
        ("::1", "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_addresses_of_every_kind(host: str, url: str, door: str) -> None:
    """The door is where this machine itself reaches it."""
    settings = Settings(host=host)
    assert (settings.url, settings.door) == (url, door)
    assert Settings(public_url="https://g.example/").url == "https://g.example"


def test_a_taken_port_is_told_from_a_free_one() -> None:
    """With what to do about it."""
    require_free_port("127.0.0.1", free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationInvalid, match="choose another with --port"):
            require_free_port("127.0.0.1", taken.getsockname()[1])


@pytest.mark.parametrize(
    ("written", "operators"),
    [("", set()), ("7", {7}), (" 7 , 8,", {7, 8}), ("9223372036854775807", {2**63 - 1})],
)
def test_operators_are_user_ids(monkeypatch: pytest.MonkeyPatch, written: str, operators: set[int]) -> None:
    """With commas between them; nobody operates unless it is said."""
    assert load_settings().operators == frozenset()
    monkeypatch.setenv("GUILDHALL_OPERATORS", written)
    assert load_settings().operators == operators


@pytest.mark.parametrize("written", ["ada", "1;2", "1 2", "-1", "9223372036854775808"])
def test_an_operator_without_an_id_is_refused(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """By the setting's name, with what is wrong."""
    monkeypatch.setenv("GUILDHALL_OPERATORS", written)
    with pytest.raises(ConfigurationInvalid, match=r"GUILDHALL_OPERATORS.*no Discord user id"):
        load_settings()


def test_what_a_relay_may_hold_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its limits; by default they are those of the domain. One that makes no sense is refused."""
    assert load_settings().socket_limits == SocketLimits()
    for name, value in {
        "LIMIT_SOCKETS": "3",
        "LIMIT_SOCKETS_PER_ADDRESS": "9",
        "LIMIT_MESSAGES": "5 per 10 seconds",
        "LIMIT_SUBSCRIBES": "7 per hour",
        "LIMIT_REPLAY_BYTES": "1000000",
        "IDLE_SOCKET_S": "5",
    }.items():
        monkeypatch.setenv(f"GUILDHALL_{name}", value)
    assert load_settings().socket_limits == SocketLimits(
        sockets=3,
        sockets_per_address=9,
        messages=Allowance(5, 10.0),
        subscribes=Allowance(7, 3_600.0),
        replay_bytes=Allowance(1_000_000, 60.0),
        idle_s=5.0,
    )
    monkeypatch.setenv("GUILDHALL_LIMIT_REPLAY_BYTES", "1000")  # less than one replay: nobody could resume
    with pytest.raises(ConfigurationInvalid, match="GUILDHALL_LIMIT_REPLAY_BYTES"):
        load_settings()
