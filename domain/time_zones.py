"""The time zones that everybody knows: this server, whatever its machine has installed, and every browser."""

from __future__ import annotations

from importlib.resources import files


def _named_by_iana() -> frozenset[str]:
    listed = files("tzdata").joinpath("zones").read_text(encoding="utf-8").split()
    return frozenset(listed) - {"Factory"}  # "nobody has set one": no browser takes it


TIME_ZONES = _named_by_iana()
"""Zones and links of the IANA database as our own package has them; not ``localtime``, ``posix/…`` or
``right/…``, which are files of a machine."""
