"""Reads the named statements of a ``.sql`` file, so that SQL stays SQL."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_PART = re.compile(r"/\* (\w+) \*/")


@cache
def load_queries(file_name: str) -> dict[str, str]:
    """Return the statements of ``adapters/sql/<file_name>`` by name.

    A statement begins after its ``-- name:`` line and ends at the next one; its comments stay in it,
    so that they can be read in the database's own logs too. Where a statement says ``/* other */``, the text
    of that name stands, so that what several have in common is written once.
    """
    text = files("adapters").joinpath("sql", file_name).read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, bodies = parts[0::2], parts[1::2]
    queries = {name: body.strip().removesuffix(";") for name, body in zip(names, bodies, strict=True)}
    if len(queries) != len(names):
        message = f"{file_name} names a statement twice"
        raise ValueError(message)
    return {name: _PART.sub(lambda part: queries.get(part[1], part[0]), sql) for name, sql in queries.items()}
