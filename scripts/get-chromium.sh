#!/bin/sh
# Print the path of a Chromium for the browser tests; as root on a machine with apt, install one.
set -u

find_chromium() {
    if [ -n "${GUILDHALL_CHROMIUM:-}" ]; then
        command -v "$GUILDHALL_CHROMIUM" && return
    fi
    for name in chromium chromium-browser google-chrome-stable google-chrome; do
        # Ubuntu's chromium-browser may be only a note that it is a snap: it must run.
        "$name" --version >/dev/null 2>&1 && command -v "$name" && return
    done
    return 1
}

find_chromium && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests." >&2
    log=$(mktemp) || exit 1
    trap 'rm -f "$log"' EXIT
    if apt-get update -qq >"$log" 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            chromium fonts-dejavu-core fonts-noto-color-emoji >>"$log" 2>&1; then
        find_chromium && exit 0
    fi
    tail -n 5 "$log" >&2
fi
echo "There is no Chromium for the browser tests; install one (on Debian: apt-get install chromium) or name it in GUILDHALL_CHROMIUM." >&2
exit 1
