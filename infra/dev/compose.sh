#!/usr/bin/env bash
# Print the path of the reader of compose files (compose_check/): Compose's own library, so that a
# file is judged as Docker judges it. Built into the cache first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

module="$ROOT/infra/dev/compose_check"
reader="$CACHE/compose-$(hash_of "$module"/{go.mod,go.sum,main.go})/compose-check"

one_at_a_time compose
if [ ! -x "$reader" ]; then
    go="$(find_go)"
    say "building the reader of compose files (once)"
    mkdir -p "$(dirname "$reader")"
    (cd "$module" && GOFLAGS=-mod=readonly "$go" build -trimpath -o "$reader.partial" . >&2)
    mv "$reader.partial" "$reader"
fi
echo "$reader"
