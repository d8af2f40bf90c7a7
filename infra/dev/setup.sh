#!/usr/bin/env bash
# Bring .venv in line with the locked requirements:  setup.sh run|dev
# "run" installs what the platform needs, "dev" also what its tests and checks need.
# Does nothing when nothing changed, and never turns a dev environment back into a run one.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

MEMBERS=("$ROOT"/protos "$ROOT"/libs/* "$ROOT"/services/*)

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.{14,13,12,11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed (Debian 12: apt-get install python3); PYTHON=… names another one"
}

# An environment is tied to its path: the scripts in it name their interpreter.
usable_environment() {
    "$VENV/bin/python" -c '' 2>/dev/null && grep -qF "$VENV" "$VENV/bin/activate"
}

create_environment() {
    local python="$1" version
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        apt_install "python$version-venv"
    fi
    say "creating .venv with $("$python" --version)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

install_locked() {
    local kind="$1"
    "$VENV/bin/python" -m pip install -q --disable-pip-version-check --require-hashes \
        -r "$ROOT/requirements/bootstrap.txt"
    "$VENV/bin/uv" pip sync -q --compile-bytecode --python "$VENV/bin/python" --require-hashes \
        "$ROOT/requirements/$kind.txt"
}

# The members themselves, as paths: what is edited is what runs. Their build backend is in
# requirements/run.txt, so nothing unlocked is fetched.
install_members() {
    local member arguments=()
    for member in "${MEMBERS[@]}"; do arguments+=(--editable "$member"); done
    "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --no-deps --no-build-isolation \
        "${arguments[@]}"
}

main() {
    local kind="${1:-dev}" wanted
    case "$kind" in run | dev) ;; *) die "usage: setup.sh run|dev" ;; esac
    # A test reads a stream as the README does.
    [ "$kind" = run ] || command -v curl >/dev/null || apt_install curl
    [ ! -e "$VENV/installed-dev" ] || kind=dev
    wanted="$ROOT $(hash_of "$ROOT"/requirements/{bootstrap,"$kind"}.txt \
        "${MEMBERS[@]/%//pyproject.toml}")"
    [ "$wanted" != "$(cat "$VENV/installed-$kind" 2>/dev/null)" ] || return 0

    usable_environment || create_environment "$(find_python)"
    say "installing the locked requirements ($kind)"
    rm -f "$VENV/installed-run" "$VENV/installed-dev"
    install_locked "$kind"
    install_members
    echo "$wanted" >"$VENV/installed-$kind"
}

main "$@"
