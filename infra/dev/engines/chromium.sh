#!/usr/bin/env bash
# Print the path of Chromium, from Debian's package; install it first if it is not there. Tests look at
# the console with it.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

one_at_a_time chromium
# fonts-dejavu-core: a browser without any font shows nothing.
command -v chromium >/dev/null || apt_install chromium fonts-dejavu-core
command -v chromium || die "the package chromium has no chromium"
