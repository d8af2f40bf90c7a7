#!/usr/bin/env bash
# Print the path of a Python that has the pinned stub compiler (requirements/protos.txt);
# install it into the cache first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

environment="$(environment_of protoc "$ROOT/requirements/protos.txt")"
echo "$environment/bin/python"
