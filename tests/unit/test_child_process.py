"""The pure parts of running a child; real programs are run in tests/contract/test_embedded_services.py."""

import os
from pathlib import Path

import pytest

from adapters import service_user
from adapters.child_process import require_short, rotate, tail
from domain.errors import DataFolderUnusable, ServiceFailed


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


def test_without_a_capability_the_closed_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing lets the service's user in, the sentence says which folder and what to do."""
    tmp_path.chmod(0o700)
    inner = tmp_path / "data"
    inner.mkdir(mode=0o755)
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: 0)
    with pytest.raises(DataFolderUnusable, match=r"may not enter /.*choose a --data-dir"):
        service_user.grant_reach(54321, 54321, own=[], needed=[inner])
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: 0b010)
    assert service_user.grant_reach(54321, 54321, own=[], needed=[inner]).capability == 1
    monkeypatch.setattr(service_user, "_effective_capabilities", lambda: 0b110)
    assert service_user.grant_reach(54321, 54321, own=[], needed=[inner]).capability == 2
