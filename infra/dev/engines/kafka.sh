#!/usr/bin/env bash
# Print the folder of the jars of Apache Kafka (engines/kafka/pom.xml); fetch them into the cache
# first if they are not there, with Java and Maven from Debian where those are missing.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

pom="$ROOT/infra/dev/engines/kafka/pom.xml"
kafka="$CACHE/kafka-$(hash_of "$pom")"

one_at_a_time kafka
need_java
if [ ! -e "$kafka/complete" ]; then
    say "fetching Apache Kafka with Maven"
    rm -rf "$kafka"
    mkdir -p "$kafka"
    maven -f "$pom" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$kafka/lib"
    touch "$kafka/complete"
fi
echo "$kafka/lib"
