#!/usr/bin/env bash
# The drill of docs/backup.md: restore a backup into a new data folder beside everything else, start
# a platform from it, and look whether it is whole. Says how long each step took.
#   restore_drill.sh BACKUP MASTER_KEYS DATA [PORT]
# BACKUP is a folder of `meshwright backup create`, MASTER_KEYS a file with the master keys (or a
# copy of secrets.json), DATA a folder that does not exist. The platform runs on afterwards, to be
# looked at; `meshwright down --data DATA` ends it.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

[ $# -ge 3 ] || die "usage: restore_drill.sh BACKUP MASTER_KEYS DATA [PORT]"
backup="$1" master_keys="$2" data="$3" port="${4:-8081}"
[ -x "$VENV/bin/meshwright" ] || die "run \`make setup\` first"

# step NAME COMMAND…: run it and say how long it took; the first that fails ends the drill.
step() {
    local name="$1" begun=$SECONDS
    shift
    "$@" || die "the drill failed at: $name"
    say "$name: $((SECONDS - begun)) s"
}

step verify "$VENV/bin/meshwright" backup verify "$backup" --master-keys "$master_keys"
step restore "$VENV/bin/meshwright" backup restore "$backup" --master-keys "$master_keys" --data "$data"
step start "$VENV/bin/meshwright" up --data "$data" --port "$port" --detach
step audit "$VENV/bin/meshwright" audit verify --data "$data"
step keys "$VENV/bin/meshwright" keys status --data "$data"
say "restored in $SECONDS s; look around, then:  meshwright down --data $data"
