#!/bin/sh
# Print the path of a Python that is new enough, or say in one sentence what to do.
set -u

for name in python3.11 python3 python python3.12 python3.13 python3.14; do
    # Asked, not only found: a version manager's shim may be on PATH and refuse to run.
    path=$("$name" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null) || continue
    printf '%s\n' "$path"
    exit 0
done
echo "Guildhall needs Python 3.11 or newer on PATH; install it (on Debian: apt-get install python3)." >&2
exit 1
