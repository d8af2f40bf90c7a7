#!/usr/bin/env bash
# Build an image by the real Dockerfile and run it as production would, without Docker and without a
# registry:  sudo infra/dev/image_trial.sh [gateway|cli]…   (both without one; Debian 12, as root)
# buildah builds in chroots. The base is Debian 12 with its Python 3.11, made by debootstrap: the one
# in Dockerfile is the same Debian with a Python built by its makers. What was built is started as
# user 10001 on a read-only root (bubblewrap) until its HEALTHCHECK is content: the gateway, which
# needs no store to start, and all in one. Other services are built, looked at, and not started.
# Some minutes; no part of `make test`.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

[ "$(id -u)" -eq 0 ] || die "this trial makes root file systems: run it as root"
for tool in buildah bwrap debootstrap; do
    command -v "$tool" >/dev/null || apt_install buildah bubblewrap debootstrap
done

base="$CACHE/image-base"
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
work="$(mktemp -d)"
# A build that failed may have left mounts of this machine's folders.
trap 'rm -rf --one-file-system "$work"' EXIT
store=(--root "$work/store" --runroot "$work/run")

if [ ! -e "$base/complete" ]; then
    say "making a base from Debian's packages"
    rm -rf "$base"
    mkdir -p "$base"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
        "$base/root" >"$work/said" 2>&1 || { tail "$work/said" >&2 && die "debootstrap failed"; }
    rm -rf "$base"/root/var/cache/apt/* "$base"/root/var/lib/apt/lists/*
    touch "$base/complete"
fi
container="$(buildah "${store[@]}" from scratch)"
buildah "${store[@]}" add -q "$container" "$base/root" / >/dev/null
# The builder trusts whom this machine trusts.
certificates=/etc/ssl/certs/ca-certificates.crt
buildah "${store[@]}" copy -q "$container" "$(readlink -f "$certificates")" "$certificates" >/dev/null
buildah "${store[@]}" config --env "SSL_CERT_FILE=$certificates" --env "PIP_CERT=$certificates" \
    --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah "${store[@]}" commit -q --rm "$container" localhost/base >/dev/null

# try SERVICE: build it, look at it, run it.
try() {
    local service="$1" mounted
    say "building $service"
    buildah "${store[@]}" bud -q --layers --build-arg BASE=localhost/base --build-arg SERVICE="$service" \
        --tag "meshwright/$service" . >"$work/said" 2>&1 || { tail -40 "$work/said" >&2 && die "the build of $service failed"; }
    container="$(buildah "${store[@]}" from --pull-never "localhost/meshwright/$service")"
    mounted="$(buildah "${store[@]}" mount "$container")"
    say "$service: $(du -sh "$mounted/opt/meshwright" | cut -f 1) above the base"
    buildah "${store[@]}" inspect --type image --format \
        '{{.OCIv1.Config.User}} {{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.StopSignal}} {{.OCIv1.Config.Labels}}' \
        "localhost/meshwright/$service" >&2
    case "$service" in
        gateway | cli) "$ROOT/infra/dev/image_run.sh" "$mounted" "$service" ;;
    esac
    buildah "${store[@]}" rm "$container" >/dev/null
}

[ "$#" -gt 0 ] || set -- gateway cli
for service; do try "$service"; done
say "every image was built; gateway and cli were started and found healthy"
