#!/usr/bin/env bash
# Print the path of the pinned kustomize (engines/kustomize/go.mod); build it into the cache first if
# it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

module="$ROOT/infra/dev/engines/kustomize"
kustomize="$CACHE/kustomize-$(hash_of "$module"/go.{mod,sum})/kustomize"

one_at_a_time kustomize
if [ ! -x "$kustomize" ]; then
    go="$(find_go)"
    say "building kustomize (once)"
    mkdir -p "$(dirname "$kustomize")"
    (cd "$module" && "$go" build -mod=readonly -trimpath -o "$kustomize.partial" \
        sigs.k8s.io/kustomize/kustomize/v5 >&2)
    mv "$kustomize.partial" "$kustomize"
fi
echo "$kustomize"
