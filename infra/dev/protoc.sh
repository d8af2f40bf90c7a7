#!/usr/bin/env bash
# Print the path of a Python that has the pinned stub compiler (requirements/protos.txt);
# install it into the cache first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

requirements="$ROOT/requirements/protos.txt"
tools="$CACHE/protoc-$(hash_of "$requirements")"

one_at_a_time
if [ ! -e "$tools/complete" ]; then
    say "installing the stub compiler"
    rm -rf "$tools"
    "$VENV/bin/uv" venv -q --python "$VENV/bin/python" "$tools"
    "$VENV/bin/uv" pip install -q --python "$tools/bin/python" --require-hashes -r "$requirements"
    touch "$tools/complete"
fi
echo "$tools/bin/python"
