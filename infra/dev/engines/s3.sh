#!/usr/bin/env bash
# Print the path of moto's server, which speaks S3 (engines/s3.txt); install it into the cache
# first if it is not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

environment="$(environment_of moto "$ROOT/infra/dev/engines/s3.txt")"
echo "$environment/bin/moto_server"
