#!/usr/bin/env bash
# Print the path of the pinned Consul (engines/consul/go.mod); build it into the cache first if it
# is not there: some three minutes on two cores.
# 1.14 is the last line under the MPL whose modules can all be had: later ones need modules under
# the BUSL (docs/adr/0009).
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

module="$ROOT/infra/dev/engines/consul"
consul="$CACHE/consul-$(hash_of "$module"/go.{mod,sum})/consul"

one_at_a_time consul
if [ ! -x "$consul" ]; then
    go="$(find_go)"
    say "building Consul (some minutes, once)"
    mkdir -p "$(dirname "$consul")"
    (cd "$module" && "$go" build -mod=readonly -trimpath -o "$consul.partial" \
        github.com/hashicorp/consul >&2)
    mv "$consul.partial" "$consul"
fi
echo "$consul"
