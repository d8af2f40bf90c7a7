#!/usr/bin/env bash
# Print the path of Milvus Lite's program (engines/milvus-lite.txt); install it into the cache
# first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

environment="$(environment_of milvus-lite "$ROOT/infra/dev/engines/milvus-lite.txt")"
echo "$environment/bin/milvus-lite"
