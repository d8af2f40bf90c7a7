#!/usr/bin/env bash
# Write a bill of materials (CycloneDX 1.6, JSON) of the locked run-time requirements:  sbom.sh FILE
# Each image has one of its own, of what is really in it: /opt/meshwright/sbom (docs/images.md).
# cyclonedx-py checks what it writes against the schema of CycloneDX, and fails if it does not fit.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

[ $# -eq 1 ] || die "usage: sbom.sh FILE"
"$(environment_of cyclonedx "$ROOT/infra/images/cyclonedx.txt")/bin/cyclonedx-py" requirements \
    --spec-version 1.6 --output-format JSON --output-reproducible --validate \
    --output-file "$1" "$ROOT/requirements/run.txt"
