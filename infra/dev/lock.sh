#!/usr/bin/env bash
# Compile requirements/{bootstrap,run,dev,protos}.txt and the servers' environments in
# infra/dev/engines/*.txt and infra/images/*.txt: every version with its hashes, no address.
# Versions already locked stay unless a bound forces them; "lock.sh --upgrade" takes the newest.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

compile() {
    local name="$1"
    shift
    say "compiling $name.txt"
    "$VENV/bin/uv" pip compile -q --universal --python-version 3.11 --generate-hashes \
        --no-header --no-emit-index-url \
        --output-file "$name.txt" "$name.in" "$@"
}

projects=()
own=()
for project in protos/pyproject.toml libs/*/pyproject.toml services/*/pyproject.toml; do
    projects+=("$project")
    own+=(--no-emit-package "$(sed -n 's/^name = "\(.*\)"$/\1/p' "$project")")
done

compile requirements/bootstrap "$@"
compile requirements/protos "$@"
compile requirements/run "${projects[@]}" "${own[@]}" "$@"
compile requirements/dev "${projects[@]}" "${own[@]}" "$@"
# uv lists the packages left out at the end: that is the members, said once here instead.
sed -i '/^# The following packages were excluded/,$d' requirements/{run,dev}.txt

for environment in infra/dev/engines/*.in infra/images/*.in; do compile "${environment%.in}" "$@"; done
