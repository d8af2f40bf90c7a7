#!/usr/bin/env bash
# Check every migration for what would hold up the services that run beside it, or break the release
# before it: locks, rewrites, renames, drops. squawk parses the SQL as PostgreSQL does; what each
# file may do nevertheless stands with its reason in infra/dev/migrations_excused.txt.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

squawk="$(environment_of squawk "$ROOT/infra/dev/engines/squawk.txt")/bin/squawk"

# The runner sets lock_timeout itself, and retries; a scan that is slow takes no lock that matters.
# Widths of integers are what the tables need.
excluded=require-lock-timeout,require-statement-timeout,prefer-bigint-over-int
# A file of one concurrent statement runs outside a transaction, any other one fails there.
excluded+=,prefer-bigint-over-smallint,ban-concurrent-index-creation-in-transaction

migrations=(libs/common/src/*/sql/*.sql services/*/src/*/migrations/*.sql)
# Its exit code says that there are findings: whether they are excused is said below.
findings="$("$squawk" --reporter json --pg-version 15.0 --assume-in-transaction \
    --exclude "$excluded" "${migrations[@]}")" || true
[ -n "$findings" ] || die "squawk said nothing: is it broken?"
"$VENV/bin/python" infra/dev/migrations_excused.py infra/dev/migrations_excused.txt \
    "${migrations[@]}" <<<"$findings"
