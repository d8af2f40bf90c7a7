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

# The machine's own if it is new enough (tools in a go.mod); Debian 12 has 1.19.
find_go() {
    local candidate version
    for candidate in ${GO:+"$GO"} go /usr/local/go/bin/go; do
        version="$(cd / && "$candidate" env GOVERSION 2>/dev/null)" || continue
        if printf '%s\n' go1.25 "$version" | sort --check=quiet --version-sort; then
            command -v "$candidate"
            return
        fi
    done
    echo "$(environment_of go "$ROOT/infra/dev/engines/go.txt")/bin/go"
}

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
