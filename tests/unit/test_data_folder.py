import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapters.data_folder import DataFolder
from domain.errors import DataFolderUnusable


def test_the_folder_is_made_for_us_alone(tmp_path: Path) -> None:
    """Missing folders are created and nobody else may look inside."""
    with DataFolder(tmp_path / "a" / "b") as folder:
        assert folder.path.stat().st_mode & 0o777 == 0o700


def test_a_second_guildhall_is_told_about_the_first(tmp_path: Path) -> None:
    """Two processes never share a data folder; the sentence names the process that has it."""
    with (
        DataFolder(tmp_path),
        pytest.raises(DataFolderUnusable, match=f"process {os.getpid()}.*choose another --data-dir"),
    ):
        DataFolder(tmp_path).acquire()


def test_a_released_folder_can_be_had_again(tmp_path: Path) -> None:
    """Release is complete, and safe to repeat."""
    folder = DataFolder(tmp_path).acquire()
    folder.release()
    folder.release()
    with DataFolder(tmp_path):
        pass


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """A killed process leaves no lock behind, whatever the file says."""
    program = (
        "import os, signal, sys; from pathlib import Path; from adapters.data_folder import DataFolder;"
        "folder = DataFolder(Path(sys.argv[1])).acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    assert (tmp_path / "lock").read_text().strip()
    with DataFolder(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    """The error says why and what to do (a file is in the way, since root may write anywhere)."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderUnusable, match=r"cannot be written.*choose another with --data-dir"):
        DataFolder(tmp_path / "file" / "data").acquire()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_is_explained(tmp_path: Path) -> None:
    """A folder without write permission is refused with the same sentence."""
    tmp_path.chmod(0o500)
    with pytest.raises(DataFolderUnusable, match="cannot be written"):
        DataFolder(tmp_path).acquire()
