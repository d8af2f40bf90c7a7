#!/usr/bin/env bash
# Print the Python of a peer's own environment, which bench/ measures beside the platform:
# peers.sh litellm, peers.sh celery. Installed into the cache first, from locked hashes.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

peer="${1:-}"
case "$peer" in
    litellm | celery | langgraph | langgraph-server | aegra) ;;
    *) die "usage: peers.sh litellm|celery|langgraph|langgraph-server|aegra" ;;
esac
environment="$(environment_of "$peer" "$ROOT/infra/dev/engines/$peer.txt")"
# A wheel may bring a .pth file, whose lines run whenever Python starts: none of these needs one.
strangers="$(find "$environment" -name '*.pth' ! -name _virtualenv.pth ! -name distutils-precedence.pth)"
[ -z "$strangers" ] || die "not expected in $environment: $strangers"
echo "$environment/bin/python"
