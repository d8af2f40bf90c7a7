#!/usr/bin/env bash
# Check what is collected, judged and shown: Prometheus's configuration, rules and the rules' own
# tests by promtool of Debian's package, and that the dashboards are what their source says.
# tests/contract/test_observability.py holds their metrics against those of a running platform.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"

FOLDER="$ROOT/infra/observability"

"$ROOT/infra/dev/engines/prometheus.sh" >/dev/null
said="$(cd "$FOLDER/prometheus" && promtool check config prometheus.yml 2>&1)" || die "$said"
said="$(cd "$FOLDER/prometheus" && promtool check rules rules/*.yml 2>&1)" || die "$said"
said="$(cd "$FOLDER/prometheus" && promtool test rules tests/*.yml 2>&1)" || die "$said"
for file in "$FOLDER"/grafana/dashboards/*.json "$FOLDER"/prometheus/*.json; do
    said="$("$VENV/bin/python" -m json.tool "$file" 2>&1 >/dev/null)" || die "$file: $said"
done
"$VENV/bin/python" "$FOLDER/grafana/build.py" --check
