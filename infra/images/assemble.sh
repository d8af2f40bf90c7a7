#!/bin/sh
# Complete the environment of one image:  assemble.sh SERVICE ENVIRONMENT SBOM_ENVIRONMENT
# The environment holds the locked requirements of all. Ours come in, what SERVICE does not need goes
# out, everything is compiled, and a bill of materials is written of what is really left.
set -eu
service="$1" environment="$2" sbom="$3"
cd "$(dirname "$0")/../.."

case "$service" in
    cli) set -- ./protos ./libs/common ./libs/cli ./services/* ;;
    *)
        [ -d "services/$service" ] || { echo "no such service: $service" >&2 && exit 2; }
        set -- ./protos ./libs/common "./services/$service"
        ;;
esac
uv pip install --quiet --python "$environment" --no-deps --no-sources --no-build-isolation "$@"

[ "$service" = cli ] && root=meshwright || root="meshwright-$service"
"$environment/bin/python" infra/images/unneeded.py "$root" >/tmp/unneeded
uv pip uninstall --quiet --python "$environment" --requirements /tmp/unneeded
# uv's lock is writable for all.
rm -f /tmp/unneeded "$environment/.lock"

# By content, not by time: the same files make the same image.
"$environment/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$environment/lib"
# CycloneDX: read it with  docker run --entrypoint cat IMAGE /opt/meshwright/sbom/…
mkdir -p "$environment/sbom"
"$sbom/bin/cyclonedx-py" environment --output-reproducible --spec-version 1.6 --output-format JSON \
    --output-file "$environment/sbom/meshwright-$service.cdx.json" "$environment"
