from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adapters import queries
from adapters.queries import load_queries


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "sql").mkdir()
    monkeypatch.setattr(queries, "files", lambda _: tmp_path)

    def read(text: str) -> dict[str, str]:
        (tmp_path / "sql" / "x.sql").write_text(text)
        return load_queries.__wrapped__("x.sql")

    return read


def test_statements_are_read_by_name(read: Any) -> None:
    """What stands before the first is a preface; comments stay with their statement."""
    text = "-- about\n\n-- name: one\n-- why\nSELECT 1;\n\n-- name: two\nSELECT ';' -- name: not here\n;\n"
    assert read(text) == {"one": "-- why\nSELECT 1", "two": "SELECT ';' -- name: not here\n"}


def test_what_statements_have_in_common_is_written_once(read: Any) -> None:
    """A part that is not there is a comment, for whoever fills it in."""
    text = "-- name: few\nn < 3;\n-- name: one\nSELECT 1 WHERE /* few */ /* more */;\n"
    assert read(text)["one"] == "SELECT 1 WHERE n < 3 /* more */"


def test_a_name_stands_once(read: Any) -> None:
    """The second would silently win."""
    with pytest.raises(ValueError, match="twice"):
        read("-- name: one\nSELECT 1;\n-- name: one\nSELECT 2;\n")


@pytest.mark.parametrize("file_name", ["guild_store.sql", "dashboard_store.sql"])
def test_our_files_hold_one_statement_a_name(file_name: str) -> None:
    """A driver that prepares statements takes only one at a time."""
    found = load_queries(file_name)
    assert found
    assert not [name for name, sql in found.items() if ";" in re.sub(r"--.*", "", sql)]


def test_a_file_that_is_not_there_is_an_error() -> None:
    """At import, not at the first query."""
    with pytest.raises(FileNotFoundError):
        load_queries("none.sql")
