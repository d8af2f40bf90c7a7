#!/usr/bin/env bash
# Print a folder with the pinned OpenTofu (tofu/go.mod) as bin/tofu and, as plugins/, the planner in
# the places of the providers that infra/terraform uses; build both into the cache first if they are
# not there: some two minutes on two cores.
# OpenTofu, not Terraform: it is under the MPL. What is checked runs on both.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

here="$ROOT/infra/dev/terraform"
tools="$CACHE/terraform-$(hash_of "$here"/{tofu,planner}/go.{mod,sum} "$here"/planner/*.go "$here"/schemas/*.json)"

# build MODULE PACKAGE BINARY
build() {
    (cd "$here/$1" && GOFLAGS=-mod=readonly "$go" build -trimpath -o "$3" "$2" >&2)
}

# origin: where OpenTofu looks for a provider without a host, by its own word: a mirror names it.
origin() {
    mkdir -p "$tools/asked"
    printf 'terraform {\n  required_providers {\n    any = { source = "hashicorp/any" }\n  }\n}\n' \
        >"$tools/asked/main.tf"
    TF_CLI_CONFIG_FILE=/dev/null "$tools/bin/tofu" -chdir="$tools/asked" providers |
        sed -n 's|.*provider\[\([^/]*\)/.*|\1|p'
}

one_at_a_time terraform
if [ ! -e "$tools/complete" ]; then
    go="$(find_go 1.26.6)"
    say "building OpenTofu (some minutes, once)"
    rm -rf "$tools"
    mkdir -p "$tools/bin"
    tofu="$CACHE/tofu-$(hash_of "$here"/tofu/go.{mod,sum})"
    [ -x "$tofu" ] || build tofu github.com/opentofu/opentofu/cmd/tofu "$tofu"
    ln -s "$tofu" "$tools/bin/tofu"
    build planner . "$tools/bin/planner"
    origin="$(origin)"
    [ -n "$origin" ] || die "OpenTofu does not say where providers come from"
    platform="$("$go" env GOOS)_$("$go" env GOARCH)"
    for schema in "$here"/schemas/*.json; do
        provider="$(basename "$schema" .json)"
        version="$(sed -n 's/^ "version": "\(.*\)"$/\1/p' "$schema")"
        # The other files there are no providers.
        [ -n "$version" ] || continue
        place="$tools/plugins/$origin/hashicorp/$provider/$version/$platform"
        mkdir -p "$place"
        ln "$tools/bin/planner" "$place/terraform-provider-${provider}_v$version"
    done
    touch "$tools/complete"
fi
echo "$tools"
