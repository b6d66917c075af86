#!/bin/sh
# Print the path of uv: the one on PATH, or one of our own in .tools/uv, installed on first use.
set -u

# Reads the lock's format; any later 0.x does as well.
wanted='uv>=0.9,<1'

cd "$(dirname "$0")/.." || exit 1
own="$PWD/.tools/uv"

if command -v uv >/dev/null 2>&1; then
    command -v uv
    exit 0
fi
if "$own/bin/uv" --version >/dev/null 2>&1; then
    printf '%s\n' "$own/bin/uv"
    exit 0
fi

python=$(scripts/find-python.sh) || exit 1

in_venv() {
    rm -rf "$own"
    "$python" -m venv "$own" && "$own/bin/python" -m pip install --quiet "$wanted"
}

# Debian's Python comes without ensurepip, and so without working venvs; its pip, if there, can install to a folder.
with_pip() {
    rm -rf "$own"
    "$python" -m pip install --quiet --target "$own" "$wanted"
}

with_apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; } >&2 && in_venv
}

log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
for attempt in in_venv with_pip with_apt; do
    if "$attempt" >>"$log" 2>&1 && "$own/bin/uv" --version >/dev/null 2>&1; then
        printf '%s\n' "$own/bin/uv"
        exit 0
    fi
done
rm -rf "$own"
tail -n 5 "$log" >&2
echo "uv could not be installed; see https://docs.astral.sh/uv/ for other ways, put it on PATH and run make again." >&2
exit 1
