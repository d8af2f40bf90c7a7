#!/usr/bin/env bash
# Start what an image holds, from its files alone:  image_run.sh ROOT SERVICE   (as root)
# As user 10001 without rights, on a read-only root, with /tmp (and, all in one, /data) writable;
# content when HEALTHCHECK's command is, and SIGTERM ends it with 0. image_trial.sh calls it.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

root="$1" service="$2"
folder="$(mktemp -d)"
trap 'kill "${started:-}" 2>/dev/null; rm -rf "$folder"' EXIT
mkdir "$folder/data" "$folder/keys"
[ "$service" = cli ] || "$VENV/bin/meshwright" keys create --out "$folder/keys" >/dev/null
chown -R 10001:10001 "$folder"
chmod 755 "$folder"

port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
# The network is this machine's, so only the loopback is listened on.
# Valkey is away for a gateway, which starts all the same; all in one has its own.
stores=(--setenv MESHWRIGHT_REDIS__URL redis://127.0.0.1:1/0)
[ "$service" != cli ] || stores=()
inside=(bwrap --ro-bind "$root" / --proc /proc --dev /dev --perms 1777 --tmpfs /tmp --ro-bind /etc/resolv.conf /etc/resolv.conf
    --bind "$folder/data" /data --unshare-pid --die-with-parent --clearenv
    --setenv PATH /opt/meshwright/bin:/usr/local/bin:/usr/bin:/bin --setenv MESHWRIGHT_IMAGE "$service"
    --setenv MESHWRIGHT_DATA /data --setenv PYTHONDONTWRITEBYTECODE 1 --setenv PYTHONSAFEPATH 1
    --setenv MESHWRIGHT_RPC__LISTEN "127.0.0.1:$port" --setenv MESHWRIGHT_IDENTITY__KEYS_DIR /data/keys
    --setenv MESHWRIGHT_LIFECYCLE__DRAIN_DELAY_SECONDS 0 --setenv MESHWRIGHT_GATEWAY__PORT "$((port + 1))" --chdir /data "${stores[@]}"
    setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all)
[ "$service" = cli ] || cp -rp "$folder/keys" "$folder/data/keys"
arguments=()
[ "$service" != cli ] || arguments=(up --port "$((port + 1))")

# What must not be possible.
! "${inside[@]}" sh -c 'touch /opt/meshwright/x || touch /etc/x || touch /x' 2>/dev/null || die "the root is writable"
"${inside[@]}" touch /tmp/x || die "/tmp is not writable"
[ "$("${inside[@]}" id -u)" = 10001 ] || die "not user 10001"

"${inside[@]}" run "${arguments[@]}" >"$folder/said" 2>&1 &
started=$!
for _ in $(seq 90); do
    if "${inside[@]}" health >/dev/null 2>&1; then healthy=true && break; fi
    kill -0 "$started" 2>/dev/null || break
    sleep 1
done
[ "${healthy:-}" = true ] || { tail -30 "$folder/said" >&2 && die "$service was not healthy"; }
say "$service: healthy as user 10001 on a read-only root"
