#!/usr/bin/env bash
# Print the Python of LiteLLM's own environment, which bench/ measures beside the platform:
# peers.sh litellm. Installed into the cache first, from locked hashes.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

[ "${1:-litellm}" = litellm ] || die "usage: peers.sh litellm"
environment="$(environment_of litellm "$ROOT/infra/dev/engines/litellm.txt")"
# A wheel may bring a .pth file, whose lines run whenever Python starts: none of these needs one.
strangers="$(find "$environment" -name '*.pth' ! -name _virtualenv.pth ! -name distutils-precedence.pth)"
[ -z "$strangers" ] || die "not expected in $environment: $strangers"
echo "$environment/bin/python"
