"""Our own cookies and nobody else's, read in time linear in what was sent.

Python's parser, which Starlette and FastAPI ask about every request, is quadratic in a quoted value before
3.11.10 and 3.12.6: 15 kB cost half a second. So it only ever sees the few short values that we have set.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from starlette.types import Scope

_OUR_VALUE = re.compile(rb"[A-Za-z0-9_-]{1,128}")
"""All that :func:`secrets.token_urlsafe` makes; what looks otherwise opens nothing here."""


def own_cookies(scope: Scope, names: Collection[str]) -> dict[str, str]:
    """Return the cookies of these names. Of two with one name the first counts, as browsers sort them."""
    wanted = {name.encode("latin-1"): name for name in names}
    found: dict[str, str] = {}
    for header, value in scope["headers"]:
        if header != b"cookie":
            continue
        for part in value.split(b";"):
            key, _, said = part.strip().partition(b"=")
            name = wanted.get(key)
            if name is not None and name not in found and _OUR_VALUE.fullmatch(said):
                found[name] = said.decode("ascii")
    return found


def drop_foreign_cookies(scope: Scope, names: Collection[str]) -> None:
    """Leave only the cookies of these names in a request, so that every later reader is spared the rest."""
    kept = "; ".join(f"{name}={value}" for name, value in own_cookies(scope, names).items())
    headers = [header for header in scope["headers"] if header[0] != b"cookie"]
    scope["headers"] = [*headers, (b"cookie", kept.encode("ascii"))] if kept else headers
