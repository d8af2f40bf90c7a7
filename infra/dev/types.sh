#!/usr/bin/env bash
# Check the types of everything written by hand, tests included.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

# A folder with a dash is no Python package, so the tests below two of them would share the
# module names "tests.…": each of those is checked in a run of its own.
checked=(conftest.py protos/src protos/generate.py protos/event_documents)
for folder in protos/tests libs/*/{src,tests} services/*/src services/*/tests tests bench; do
    case "$folder" in services/*-*/tests) continue ;; esac
    [ -z "$(find "$folder" -name '*.py' -print -quit 2>/dev/null)" ] || checked+=("$folder")
done
"$VENV/bin/mypy" "${checked[@]}"
for folder in services/*-*/tests; do
    [ ! -d "$folder" ] || "$VENV/bin/mypy" "$folder"
done
