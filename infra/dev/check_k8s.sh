#!/usr/bin/env bash
# Build every overlay and variant of infra/k8s, and validate what comes out: fields that Kubernetes,
# KEDA, the Prometheus operator, the Gateway API or External Secrets do not know fail.
# "check_k8s.sh render FOLDER" only builds them, as FOLDER/<name>.yaml; "check_k8s.sh validate FILE…"
# only validates what is rendered already.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

# The oldest one that infra/terraform takes.
version=1.33

# crds: print a folder with the definitions of crds.txt, fetched first if it is not there.
crds() {
    local list="$ROOT/infra/dev/k8s/crds.txt" folder go module release sum path answer
    folder="$CACHE/crds-$(hash_of "$list")"
    one_at_a_time crds
    if [ ! -e "$folder/complete" ]; then
        say "fetching the schemas of custom resources"
        go="$(find_go)"
        mkdir -p "$folder"
        while read -r module release sum path; do
            [ "$module" != "#" ] || continue
            answer="$(cd / && "$go" mod download -json "$module@$release")" ||
                die "cannot fetch $module@$release: $answer"
            [ "$(sed -n 's/^\t"Sum": "\(.*\)",\{0,1\}$/\1/p' <<<"$answer")" = "$sum" ] ||
                die "$module@$release is not what infra/dev/k8s/crds.txt says"
            cp "$(sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p' <<<"$answer")/$path" "$folder/"
        done <"$list"
        touch "$folder/complete"
    fi
    echo "$folder"
}

# render FOLDER: build everything into it.
render() {
    local kustomize one
    kustomize="$(infra/dev/engines/kustomize.sh)"
    mkdir -p "$1"
    for one in infra/k8s/{overlays,variants}/*/; do
        "$kustomize" build "$one" >"$1/$(basename "$one").yaml" || die "cannot build $one"
    done
}

# validate FILE…: say what is wrong in them, and fail then.
validate() {
    local definitions environment
    definitions="$(crds)"
    environment="$(environment_of kubernetes-validate "$ROOT/infra/dev/engines/kubernetes-validate.txt")"
    "$environment/bin/python" infra/dev/k8s/validate.py "$version" "$definitions" "$@"
}

case "${1:-}" in
render) render "${2:?render where?}" ;;
validate) validate "${@:2}" ;;
*)
    rendered="$(mktemp -d)"
    trap 'rm -rf "$rendered"' EXIT
    render "$rendered"
    validate "$rendered"/*.yaml
    say "infra/k8s: every arrangement is valid for Kubernetes $version"
    ;;
esac
