#!/usr/bin/env bash
# Check Dockerfile and compose.yaml without Docker: hadolint (nothing is skipped), Compose's own
# reader in each of its profiles, the scripts of the images. tests/integration/test_images_*.py hold
# the settings in it against the code and start a service as its image does.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/common.sh"
cd "$ROOT"

hadolint="$(environment_of hadolint infra/dev/engines/hadolint.txt)/bin/hadolint"
"$hadolint" --failure-threshold style --require-label org.opencontainers.image.title:text \
    --require-label org.opencontainers.image.revision:text Dockerfile
"$VENV/bin/shellcheck" infra/images/{run,health,assemble.sh} infra/compose/*.sh

# The tests start a service as its image does.
command -v bwrap >/dev/null || apt_install bubblewrap
reader="$(infra/dev/compose.sh)"
for profiles in core full "full observability"; do
    # shellcheck disable=SC2086  # two words
    variables="$(infra/compose/environment.sh $profiles)"
    said="$(set -a && eval "$variables" && "$reader" compose.yaml)" || die "compose.yaml with $profiles"
    [[ "$said" == *'"gateway"'* ]] || die "compose.yaml with $profiles has no gateway"
done
