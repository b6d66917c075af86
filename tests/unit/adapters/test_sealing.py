from __future__ import annotations

import pytest

from adapters.sealing import Sealer, new_key
from domain.errors import ConfigurationInvalid, SealBroken


def test_what_is_sealed_opens_again() -> None:
    """And shows nothing of itself; the same thing sealed twice does not look the same."""
    sealer = Sealer([new_key()])
    sealed = sealer.seal(b"refresh token")
    assert sealer.open(sealed) == b"refresh token"
    assert "refresh" not in sealed
    assert sealed != sealer.seal(b"refresh token")


def test_keys_are_rotated() -> None:
    """The first seals, all open; without the key that sealed it a thing stays closed."""
    old, new = new_key(), new_key()
    sealed = Sealer([old]).seal(b"x")
    assert Sealer([new, old]).open(sealed) == b"x"
    assert Sealer([new]).open(Sealer([new, old]).seal(b"y")) == b"y"
    with pytest.raises(SealBroken):
        Sealer([new]).open(sealed)


def test_what_was_changed_does_not_open() -> None:
    """Nobody who can write where it is kept can make it something else."""
    sealer = Sealer([new_key()])
    sealed = sealer.seal(b"x" * 40)
    for position in range(0, len(sealed) - 2, 7):
        changed = sealed[:position] + ("A" if sealed[position] != "A" else "B") + sealed[position + 1 :]
        with pytest.raises(SealBroken):
            sealer.open(changed)
    for nonsense in ("", "x", "ü", "\0", sealed[:-4], sealed[::-1]):
        with pytest.raises(SealBroken):
            sealer.open(nonsense)


@pytest.mark.parametrize(
    "keys", [[], [""], ["short"], [new_key(), "x" * 44], [new_key()[:-1]], ["ü" * 44], ["=" * 44]]
)
def test_a_key_that_is_none_is_one_sentence(keys: list[str]) -> None:
    """It says which, how to make one, and shows none."""
    with pytest.raises(ConfigurationInvalid) as caught:
        Sealer(keys)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert not any(key in sentence for key in keys if key)
