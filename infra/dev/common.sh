# Sourced by the scripts of this folder: where things are, and how they speak.
# shellcheck shell=bash disable=SC2034  # the names are used by the scripts that source this

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
# Downloads that outlive a checkout: the proto tools and the sample documents.
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/meshwright"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# hash_of FILE…: one short name for the contents of all of them together.
hash_of() { cat -- "$@" | sha256sum | cut -c 1-16; }

# one_at_a_time [NAME]: wait until no other script of that name fills the cache.
one_at_a_time() {
    mkdir -p "$CACHE"
    exec {lock}>"$CACHE/lock${1:+-$1}"
    flock "$lock"
}

# apt_install PACKAGE…: as root install them, otherwise say what is missing and stop.
apt_install() {
    if ! command -v apt-get >/dev/null; then
        die "please install: $* (named as in Debian)"
    elif [ "$(id -u)" -ne 0 ]; then
        die "please install what is missing:  sudo apt-get install $*"
    fi
    say "installing $* with apt-get"
    (
        one_at_a_time apt
        apt_refresh
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    )
}

# apt_install_stopped PACKAGE…: the same for a server's packages, without starting the service.
apt_install_stopped() {
    local policy=/usr/sbin/policy-rc.d own=false
    # What Debian's packages ask before they start a service: 101 forbids it.
    if [ "$(id -u)" -eq 0 ] && [ ! -e "$policy" ]; then
        own=true
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt_install "$@" || { ! $own || rm -f "$policy"; exit 1; }
    ! $own || rm -f "$policy"
}

# apt_refresh: fetch the package lists where a fresh image has none.
apt_refresh() {
    if [ "$(id -u)" -eq 0 ] && ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
        apt-get update -qq >/dev/null
    fi
}

# need_java: make sure of Java 17 or newer, which Kafka and Elasticsearch run on.
need_java() {
    command -v java >/dev/null || apt_install openjdk-17-jre-headless
    java --version 2>/dev/null | grep -qE '^(openjdk|java) (1[7-9]|[2-9][0-9])' ||
        die "Java 17 or newer is needed; $(command -v java) is older"
}

# environment_of NAME REQUIREMENTS: print an environment of its own in the cache with exactly these
# requirements, made first if it is not there.
environment_of() {
    local name="$1" requirements="$2" environment
    environment="$CACHE/$name-$(hash_of "$requirements")"
    one_at_a_time "$name"
    if [ ! -e "$environment/complete" ]; then
        say "installing $name"
        rm -rf "$environment"
        "$VENV/bin/uv" venv -q --python "$VENV/bin/python" "$environment" >&2
        "$VENV/bin/uv" pip install -q --python "$environment/bin/python" --require-hashes \
            -r "$requirements" >&2
        touch "$environment/complete"
    fi
    echo "$environment"
}
