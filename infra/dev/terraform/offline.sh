#!/usr/bin/env bash
# Look at infra/terraform without a cloud, by OpenTofu and the planner:
#     offline.sh validate ENVIRONMENT            say nothing, or what is wrong
#     offline.sh plan ENVIRONMENT [-var N=V…]    print the plan as JSON, with made-up ARNs
# Variables come from the environment's terraform.tfvars.example. Exits 1 with OpenTofu's own message
# for what it refuses. A plan is kept in the cache until something that it is made of changes.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

action="$1" environment="$2"
shift 2
[ -d "$ROOT/infra/terraform/envs/$environment" ] || die "there is no envs/$environment"
tools="$("$ROOT/infra/dev/terraform/tofu.sh")"
copy="$(mktemp -d)"
trap 'rm -rf "$copy"' EXIT
# As git has it, or would: no state, no downloads, nobody's own variables.
(cd "$ROOT/infra/terraform" && git ls-files -z --cached --others --exclude-standard . |
    xargs -0 cp --parents -t "$copy")

plans="$CACHE/terraform-plans"
kept="$plans/$environment-$(cd "$copy" && {
    find . -type f -print0 | sort -z | xargs -0 sha256sum
    echo "$tools $*"
} | sha256sum | cut -c 1-16).json"

cat >"$copy/cli.tfrc" <<CLI
disable_checkpoint = true
provider_installation {
  filesystem_mirror {
    path = "$tools/plugins"
  }
}
CLI
export TF_CLI_CONFIG_FILE="$copy/cli.tfrc" PLANNER_SCHEMAS="$ROOT/infra/dev/terraform/schemas"
# The machine's own settings are for real clouds.
for name in "${!TF_VAR_@}" TF_DATA_DIR TF_WORKSPACE TF_CLI_ARGS; do unset "$name"; done

# tofu ARGUMENT…: run it; say what it said if it fails.
tofu() {
    "$tools/bin/tofu" "$@" -no-color >"$copy/said" 2>&1 || {
        cat "$copy/said" >&2
        exit 1
    }
}

cd "$copy/envs/$environment"
printf 'terraform {\n  backend "local" {}\n}\n' >offline_override.tf
case "$action" in
validate)
    tofu init -input=false
    # A plan in which nothing is known that only a cloud tells: what a first apply meets.
    tofu plan -input=false -refresh=false -var-file=terraform.tfvars.example
    ;;
plan)
    one_at_a_time "terraform-plan-$environment"
    export PLANNER_ARNS=1
    if [ ! -e "$kept" ]; then
        tofu init -input=false
        tofu plan -input=false -refresh=false -out=plan -var-file=terraform.tfvars.example "$@"
        mkdir -p "$plans"
        find "$plans" -name "$environment-*" -mtime +7 -delete
        "$tools/bin/tofu" show -json plan >"$kept.partial"
        mv "$kept.partial" "$kept"
    fi
    cat "$kept"
    ;;
*) die "no action $action: validate or plan" ;;
esac
