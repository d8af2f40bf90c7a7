#!/usr/bin/env bash
# Print the path of the pinned buf (protos/package-lock.json); install it into the cache first
# if it is not there, with Node and npm from Debian where those are missing.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

tools="$CACHE/buf-$(hash_of "$ROOT/protos/package-lock.json")"

one_at_a_time
if [ ! -e "$tools/complete" ]; then
    command -v npm >/dev/null || apt_install nodejs npm
    say "installing buf"
    rm -rf "$tools"
    mkdir -p "$tools"
    cp "$ROOT"/protos/package{,-lock}.json "$tools"
    (cd "$tools" && npm ci --silent --ignore-scripts --no-audit --no-fund >&2)
    touch "$tools/complete"
fi
compgen -G "$tools/node_modules/@bufbuild/buf-*/bin/buf" || die "there is no buf for $(uname -sm)"
