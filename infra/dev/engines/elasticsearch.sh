#!/usr/bin/env bash
# Print the folder of Elasticsearch; fetch it into the cache first if it is not there, with Java
# and Maven from Debian where those are missing. It is the distribution that Elasticsearch's own
# integration tests run on: a whole server without the optional modules.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

version=8.19.2
artifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$version:zip"
# It refuses root and then runs as an account that cannot enter root's home.
[ "$(id -u)" -ne 0 ] || CACHE=/var/cache/meshwright
home="$CACHE/elasticsearch-$version"

one_at_a_time elasticsearch
need_java
if [ ! -e "$home/complete" ]; then
    say "fetching Elasticsearch with Maven"
    work="$home.partial"
    rm -rf "$home" "$work"
    mkdir -p "$work"
    # A folder without a pom, so that none is read.
    (cd "$work" && maven dependency:copy -Dartifact="$artifact" -DoutputDirectory="$work")
    python3 -m zipfile -e "$work/elasticsearch-$version.zip" "$work"
    chmod +x "$work/elasticsearch-$version"/bin/*
    chmod -R go+rX "$work"
    mv "$work/elasticsearch-$version" "$home"
    rm -rf "$work"
    touch "$home/complete"
fi
echo "$home"
