#!/usr/bin/env bash
# Check infra/terraform without a cloud: format, every resource and argument against the providers'
# schemas, both environments, what they share; then checkov over all files of infrastructure. Changes nothing.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

tools="$(infra/dev/terraform/tofu.sh)"
# fmt needs no settings of the machine.
TF_CLI_CONFIG_FILE=/dev/null "$tools/bin/tofu" fmt -check -diff -recursive infra/terraform >&2 ||
    die "not formatted: tofu fmt -recursive infra/terraform"
# A root for each environment; main.tf says how they differ, nothing else does.
for file in variables outputs providers versions; do
    diff -u infra/terraform/envs/{dev,prod}/"$file.tf" >&2 || die "$file.tf of dev and prod must be the same"
done
for environment in dev prod; do
    infra/dev/terraform/offline.sh validate "$environment"
done

# All in one folder: checkov takes longer to start than to look.
checked="$(mktemp -d)"
trap 'rm -rf "$checked"' EXIT
git ls-files -z --cached --others --exclude-standard infra/terraform | xargs -0 cp --parents -t "$checked"
infra/dev/check_k8s.sh render "$checked/rendered"
# Together they have every workload and component that runs one.
mkdir "$checked/k8s"
cp "$checked"/rendered/{dev,prod,prod-consul-mutual-tls}.yaml "$checked/k8s"
rm -r "$checked/rendered"
cp Dockerfile "$checked"
checkov="$(environment_of checkov infra/dev/engines/checkov.txt)/bin/checkov"
BC_SKIP_MAPPING=TRUE CKV_IGNORE_HIDDEN_DIRECTORIES=true LOG_LEVEL=ERROR "$checkov" \
    --config-file infra/dev/terraform/checkov.yaml --directory "$checked" \
    --framework terraform kubernetes dockerfile >"$checked/said" 2>&1 || {
    cat "$checked/said" >&2
    die "checkov: mend it, or skip it with a reason (infra/dev/terraform/checkov.yaml says how)"
}
