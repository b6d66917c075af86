"""The statements that answer from a guild's violations, put together from their parts."""

from __future__ import annotations

from functools import cache

from adapters.queries import load_queries

_NEWEST_FIRST = {
    "order": "ts DESC, message_id DESC, event_id",
    "direction": "DESC",
    "beyond": "after",
}
_OLDEST_FIRST = {
    "order": "ts, message_id, event_id DESC",
    "direction": "",
    "beyond": "before",
}
_BY_PLACE = ("violations", "violations_of_hours", "reviewed")


@cache
def statements() -> dict[str, str]:
    """Return the statements by name.

    Those of lists are there a second time as ``…_backwards``: from a row towards the newest, oldest first.
    """
    parts = load_queries("insights.sql")
    made = {name: _filled(sql, parts, _NEWEST_FIRST) for name, sql in parts.items()}
    for name in _BY_PLACE:
        made[f"{name}_backwards"] = _filled(parts[name], parts, _OLDEST_FIRST)
    for source in ("all", "rules"):
        sql = parts["locate"].replace("/* hours */", parts[f"hours_of_{source}"])
        made[f"locate_of_{source}"] = _filled(sql, parts, _NEWEST_FIRST)
        made[f"locate_of_{source}_backwards"] = _filled(sql, parts, _OLDEST_FIRST)
    return made


def _filled(sql: str, parts: dict[str, str], way: dict[str, str]) -> str:
    sql = sql.replace("/* beyond */", parts[way["beyond"]])
    return sql.replace("/* order */", way["order"]).replace("/* direction */", way["direction"])
