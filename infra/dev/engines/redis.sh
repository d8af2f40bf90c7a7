#!/usr/bin/env bash
# Print the folder of `redis-server`, from Debian's package; install it first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

one_at_a_time redis
command -v redis-server >/dev/null || apt_install --stopped redis-server
dirname "$(command -v redis-server)"
