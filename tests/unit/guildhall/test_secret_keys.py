from __future__ import annotations

import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from adapters.sealing import Sealer, new_key
from domain.errors import ConfigurationInvalid
from guildhall.secret_keys import secret_keys
from guildhall.settings import Settings


def test_a_key_of_our_own_stays(tmp_path: Path) -> None:
    """It is made once, and only its owner can read it."""
    keys = secret_keys(Settings(), tmp_path)
    assert secret_keys(Settings(), tmp_path) == keys
    assert Sealer(keys).open(Sealer(keys).seal(b"x")) == b"x"
    assert stat.S_IMODE((tmp_path / "secret-key").stat().st_mode) == 0o600


def test_every_folder_has_its_own(tmp_path: Path) -> None:
    """Nobody can guess one from another."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert secret_keys(Settings(), tmp_path / "a") != secret_keys(Settings(), tmp_path / "b")


def test_keys_that_are_set_are_used(tmp_path: Path) -> None:
    """And none is made."""
    first, second = new_key(), new_key()
    settings = Settings(secret_keys=SecretStr(f"{first}, {second}"))
    assert secret_keys(settings, tmp_path) == (first, second)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_holds_several_is_several(tmp_path: Path) -> None:
    """So that this key can be rotated, too."""
    first, second = new_key(), new_key()
    (tmp_path / "secret-key").write_text(f"{first}\n{second}\n")
    assert secret_keys(Settings(), tmp_path) == (first, second)


@pytest.mark.parametrize("content", ["", "not a key\n", "x" * 44])
def test_a_file_that_was_damaged_is_named(tmp_path: Path, content: str) -> None:
    """Nothing is overwritten: what was sealed with it may still be wanted."""
    (tmp_path / "secret-key").write_text(content)
    with pytest.raises(ConfigurationInvalid, match="secret-key") as caught:
        secret_keys(Settings(), tmp_path)
    assert str(caught.value).endswith(".")
    assert (tmp_path / "secret-key").read_text() == content
