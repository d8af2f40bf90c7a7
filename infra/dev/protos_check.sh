#!/usr/bin/env bash
# Check the protos: style, format, and that nothing breaks what protos/baseline.binpb promises.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT/protos"

buf="$("$ROOT/infra/dev/buf.sh")"
"$buf" lint
"$buf" format --diff --exit-code
"$buf" breaking --against baseline.binpb
