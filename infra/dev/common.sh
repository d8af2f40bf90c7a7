# Sourced by the scripts of this folder: where things are, and how they speak.
# shellcheck shell=bash disable=SC2034  # the names are used by the scripts that source this

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
VENV="$ROOT/.venv"
# Downloads that outlive a checkout: the proto tools and the sample documents.
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/meshwright"
# One place for all scripts, also for those that keep their downloads elsewhere.
LOCKS="$CACHE"

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# hash_of FILE…: one short name for the contents of all of them together.
hash_of() { cat -- "$@" | sha256sum | cut -c 1-16; }

# one_at_a_time [NAME]: wait until no other script of that name fills the cache.
one_at_a_time() {
    mkdir -p "$LOCKS"
    exec {lock}>"$LOCKS/lock${1:+-$1}"
    flock "$lock"
}

# apt_install [--stopped] PACKAGE…: as root install them, otherwise say what is missing and stop.
# --stopped keeps the services in them from being started.
apt_install() (
    policy=/usr/sbin/policy-rc.d
    stopped=false
    [ "$1" != --stopped ] || { stopped=true && shift; }
    if ! command -v apt-get >/dev/null; then
        die "please install: $* (named as in Debian)"
    elif [ "$(id -u)" -ne 0 ]; then
        die "please install what is missing:  sudo apt-get install $*"
    fi
    one_at_a_time apt
    say "installing $* with apt-get"
    if $stopped && [ ! -e "$policy" ]; then
        # Packages ask this before they start a service: 101 forbids it.
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt_refresh
    # Debian may be at its own updates just now.
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" >/dev/null
)

# apt_refresh: fetch the package lists where a fresh image has none.
apt_refresh() {
    if [ "$(id -u)" -eq 0 ] && ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
        apt-get update -qq >/dev/null
    fi
}

# maven ARGUMENT…: run Maven, installed first where it is missing; one at a time fills its store.
maven() (
    command -v mvn >/dev/null || apt_install maven
    one_at_a_time maven
    mvn -q -B "$@" >&2
)

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

# find_go [VERSION]: print a Go of that version (1.25) or newer: the machine's own if it is new enough
# (Debian 12 has 1.19), otherwise the one in engines/go.txt.
find_go() {
    local candidate version
    for candidate in ${GO:+"$GO"} go /usr/local/go/bin/go; do
        version="$(cd / && "$candidate" env GOVERSION 2>/dev/null)" || continue
        if printf '%s\n' "go${1:-1.25}" "$version" | sort --check=quiet --version-sort; then
            command -v "$candidate"
            return
        fi
    done
    echo "$(environment_of go "$ROOT/infra/dev/engines/go.txt")/bin/go"
}
