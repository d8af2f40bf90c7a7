#!/usr/bin/env bash
# Build all eight images by the real Dockerfile, and run the platform from them, without Docker and
# without a registry:  sudo nice infra/dev/image_trial.sh [one] [core] [full]
# (all three without one; `none` builds only). Debian 12, as root; a quarter of an hour, most of it for
# the images, so no part of `make test`. IMAGE_TRIAL names a folder to keep them in; without it nothing
# is left. buildah builds in chroots. The base is Debian 12 with its Python 3.11, made by debootstrap:
# the one in Dockerfile is the same Debian with a Python built by its makers. image_platform.py says
# how the platform is run: all in one, and as the profiles of compose.yaml.
# All of it happens in a mount namespace with a /dev and a /run of its own: a builder that changes
# either (its chroots share them) changes nothing of this machine.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

services=(gateway chat orchestrator rag tool-exec session model-router cli)
certificates=/etc/ssl/certs/ca-certificates.crt

# modes: what a trial must leave as it was.
modes() { stat -c '%a %u %g %n' / /dev /dev/{null,shm,pts} /etc /run /tmp /var/tmp /sys/fs/cgroup; }

# own_devices FOLDER: put a /dev and a /run of our own over the machine's, in this namespace.
own_devices() {
    mkdir -p "$1"
    mount -t tmpfs -o mode=0755 devices "$1"
    cp -a /dev/{null,zero,full,random,urandom,tty} "$1"
    mkdir "$1"/{pts,shm,mqueue}
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 terminals "$1/pts"
    mount -t tmpfs -o mode=1777 memory "$1/shm"
    ln -s pts/ptmx "$1/ptmx"
    ln -s /proc/self/fd "$1/fd"
    mount --move "$1" /dev
    mount -t tmpfs -o mode=0755 run /run
}

# make_base: what FROM names, as localhost/base.
make_base() {
    local base="$CACHE/image-base" container
    if [ ! -e "$base/complete" ]; then
        say "making a base from Debian's packages"
        rm -rf --one-file-system "$base"
        mkdir -p "$base"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm \
            "$base/root" >"$work/said" 2>&1 || { tail "$work/said" >&2 && die "debootstrap failed"; }
        rm -rf "$base"/root/var/cache/apt/* "$base"/root/var/lib/apt/lists/* "$base"/root/dev/*
        touch "$base/complete"
    fi
    container="$(buildah "${store[@]}" from scratch)"
    buildah "${store[@]}" add -q "$container" "$base/root" / >/dev/null
    # The builder trusts whom this machine trusts.
    buildah "${store[@]}" copy -q "$container" "$(readlink -f "$certificates")" "$certificates" >/dev/null
    buildah "${store[@]}" config --env "SSL_CERT_FILE=$certificates" --env "PIP_CERT=$certificates" \
        --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    buildah "${store[@]}" commit -q --rm "$container" localhost/base >/dev/null
}

# build SERVICE: build it and say what came of it. HEALTHCHECK is no part of an OCI image.
build() {
    local service="$1" container mounted began="$SECONDS"
    buildah "${store[@]}" bud -q --layers --format docker --build-arg BASE=localhost/base \
        --build-arg SERVICE="$service" --tag "meshwright/$service" . >"$work/said" 2>&1 ||
        { tail -40 "$work/said" >&2 && die "the build of $service failed"; }
    container="$(buildah "${store[@]}" from --pull-never "localhost/meshwright/$service")"
    mounted="$(buildah "${store[@]}" mount "$container")"
    say "$(printf '%-13s %4s MB above the base, %3s distributions, %4s s' "$service" \
        "$(du -sm "$mounted/opt/meshwright" | cut -f 1)" \
        "$(find "$mounted/opt/meshwright/lib" -maxdepth 3 -name '*.dist-info' | wc -l)" $((SECONDS - began)))"
    [ -s "$mounted/opt/meshwright/sbom/meshwright-$service.cdx.json" ] || die "$service has no bill of materials"
    [ -z "$(find "$mounted/opt/meshwright" -xdev \( -user 10001 -o -perm /022 \) ! -type l -print -quit)" ] ||
        die "$service: its user may write into its code"
    buildah "${store[@]}" rm "$container" >/dev/null
}

# inside WORK PROFILE…: the trial itself.
inside() {
    work="$1"
    shift
    own_devices "$work/devices"
    export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=overlay
    local began="$SECONDS" profile service
    store=(--root "$work/store" --runroot "$work/run")
    buildah "${store[@]}" inspect --type image localhost/base >/dev/null 2>&1 || make_base
    say "base: $((SECONDS - began)) s"
    for service in "${services[@]}"; do build "$service"; done
    for profile; do
        [ "$profile" != none ] || continue
        # What it starts dies with it.
        PYTHONPATH="$ROOT" unshare --pid --fork --kill-child --mount-proc \
            "$VENV/bin/python" infra/dev/image_platform.py "$profile" --storage "$work"
    done
}

if [ "${1:-}" = --inside ]; then
    shift
    inside "$@"
    exit
fi

[ "$(id -u)" -eq 0 ] || die "this trial makes root file systems: run it as root"
for tool in buildah debootstrap podman runc; do
    command -v "$tool" >/dev/null || apt_install --stopped buildah debootstrap podman runc
done
[ "$#" -gt 0 ] || set -- one core full
for profile; do
    case "$profile" in one | core | full | none) ;; *) die "no such profile: $profile" ;; esac
done
folder="${IMAGE_TRIAL:-$(mktemp -d)}"
mkdir -p "$folder"
[ -n "${IMAGE_TRIAL:-}" ] || trap 'rm -rf --one-file-system "$folder"' EXIT
before="$(modes)"
status=0
unshare --mount --propagation private "$0" --inside "$folder" "$@" || status=$?
[ "$(modes)" = "$before" ] || die "the trial changed this machine: $(diff <(echo "$before") <(modes))"
[ "$status" -eq 0 ] || exit "$status"
say "every image was built; what ran from them: $*"
