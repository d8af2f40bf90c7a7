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

# one_at_a_time: wait until no other script of this folder fills the cache.
one_at_a_time() {
    mkdir -p "$CACHE"
    exec {lock}>"$CACHE/lock"
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
    apt_refresh
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# apt_refresh: fetch the package lists where a fresh image has none.
apt_refresh() {
    if [ "$(id -u)" -eq 0 ] && ! compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null; then
        apt-get update -qq >/dev/null
    fi
}
