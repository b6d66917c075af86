"""The pure parts of running a child; real programs are run in tests/contract/test_embedded_services.py."""

import os
from pathlib import Path

import pytest

from adapters import service_user
from adapters.child_process import require_short, rotate, tail
from domain.errors import ServiceFailed


def test_the_tail_is_the_last_lines_as_one(tmp_path: Path) -> None:
    """A log's last three lines that say something become one line."""
    log = tmp_path / "service.log"
    log.write_text("first\nsecond\n\n  third\nfourth\n\n")
    assert tail(log) == "second | third | fourth"


def test_the_tail_is_bounded(tmp_path: Path) -> None:
    """A server that writes a very long line does not make a very long message."""
    log = tmp_path / "service.log"
    log.write_text("x" * 100_000)
    assert len(tail(log)) == 600


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    """A failure before the first line has an empty tail, not an error of its own."""
    assert tail(tmp_path / "none.log") == ""


def test_one_old_log_is_kept(tmp_path: Path) -> None:
    """However often a service starts, there are two logs at most."""
    log = tmp_path / "service.log"
    for run in ("one", "two", "three"):
        rotate(log)
        log.write_text(run)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "service.log": "three",
        "service.log.1": "two",
    }


@pytest.mark.parametrize(("length", "accepted"), [(107, True), (108, False)])
def test_socket_paths_have_a_limit_in_bytes(length: int, accepted: bool) -> None:
    """The limit is the kernel's, and it counts bytes: é is two."""
    path = Path("/é" + "x" * (length - 3))
    assert len(os.fsencode(path)) == length
    if accepted:
        require_short(path)
    else:
        with pytest.raises(ServiceFailed, match="108 bytes and 107 is the limit"):
            require_short(path)


def test_the_outermost_closed_folder_is_found(tmp_path: Path) -> None:
    """A folder that only its owner may enter is closed to a stranger, and so is all below it."""
    tmp_path.chmod(0o700)
    inner = tmp_path / "open"
    inner.mkdir(mode=0o755)
    closed = service_user.first_closed([inner], uid=54321, gid=54321)
    assert closed is not None
    assert inner.is_relative_to(closed)
    assert closed != inner


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_user_of_an_existing_folder_is_its_owner(tmp_path: Path) -> None:
    """Data once written by a user stays that user's."""
    os.chown(tmp_path, 54321, 54322)
    assert service_user.choose_user(tmp_path) == (54321, 54322)


_DOCKER = 0xA80425FB  # what a container has by default: no DAC_READ_SEARCH
_ROOT = 0x1FFFFFFFFFF


@pytest.mark.parametrize(("held", "kept"), [(_DOCKER, 1), (_ROOT, 2)])
def test_the_least_capability_that_passes_a_closed_folder_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, kept: int
) -> None:
    """Below a closed folder the service may read past it or, where that right is missing, write past it."""
    tmp_path.chmod(0o700)
    inner = tmp_path / "data"
    inner.mkdir(mode=0o755)
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: held)
    assert service_user.grant_reach(54321, 54321, own=[], needed=[inner]).capability == kept
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_no_capability_is_kept_where_all_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the ordinary case the service is an ordinary user."""
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: _ROOT)
    assert service_user.grant_reach(54321, 54321, own=[], needed=[Path("/")]).capability is None


def test_root_without_its_rights_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that may not switch user gets a sentence, not a stack trace from a child."""
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: 0b10)
    with pytest.raises(ServiceFailed, match=r"\(CHOWN, KILL, SETGID, SETUID\).*ordinary user"):
        service_user.grant_reach(54321, 54321, own=[tmp_path], needed=[])
