#!/usr/bin/env bash
# Print the path of Prometheus, from Debian's package, which brings promtool; install it first if it
# is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

one_at_a_time prometheus
{ command -v prometheus && command -v promtool; } >/dev/null || apt_install --stopped prometheus
command -v promtool >/dev/null || die "the package prometheus has no promtool"
command -v prometheus || die "the package prometheus has no prometheus"
