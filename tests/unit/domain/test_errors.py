from __future__ import annotations

import pickle

import pytest

from domain import errors
from domain.errors import GuildhallError

EVERY = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GuildhallError)
]


@pytest.mark.parametrize("kind", EVERY)
def test_every_error_has_a_sentence_and_travels(kind: type[GuildhallError]) -> None:
    """Without a message its description speaks; between processes it stays what it is."""
    assert str(kind()).endswith(".")
    told = pickle.loads(pickle.dumps(kind("What to do.")))
    assert type(told) is kind
    assert str(told) == "What to do."
