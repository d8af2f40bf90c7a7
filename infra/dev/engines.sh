#!/usr/bin/env bash
# Install the servers for tests that are not there yet, side by side: see engines/*.sh. A first time
# takes some minutes, most of them for Consul.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

declare -A running
for script in "$ROOT"/infra/dev/engines/*.sh; do
    "$script" >/dev/null &
    running[$(basename "$script" .sh)]=$!
done
failed=()
for engine in "${!running[@]}"; do wait "${running[$engine]}" || failed+=("$engine"); done
[ "${#failed[@]}" -eq 0 ] || die "not installed: ${failed[*]}"
