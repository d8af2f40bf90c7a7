#!/usr/bin/env bash
# Check where things come from: every lock with hashes and without addresses, licences against a list,
# files that Python would run at every start, and that a valid bill of materials can be made.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

"$VENV/bin/python" infra/dev/supply_chain.py
bill="$(mktemp)"
trap 'rm -f "$bill"' EXIT
infra/dev/sbom.sh "$bill"
