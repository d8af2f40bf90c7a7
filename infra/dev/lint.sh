#!/usr/bin/env bash
# Check style (ruff), the direction of imports (import-linter) and the shell scripts (shellcheck).
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

"$VENV/bin/ruff" check .
"$VENV/bin/ruff" format --check .
"$VENV/bin/lint-imports" --no-logo
"$VENV/bin/shellcheck" --external-sources infra/dev/*.sh infra/dev/*/*.sh .ci/run
