#!/bin/sh
# Print an environment for compose.yaml with fresh passwords:
#     (umask 077; infra/compose/environment.sh full >.env) && docker compose up --wait
# core: PostgreSQL and Valkey. full: all engines of production. With "observability" behind it, also
# the collector, Jaeger, Prometheus and Grafana. Keep the file: without its master key nothing that
# is stored opens, and without its passwords no engine does.
set -eu

secret() { od -An -N 16 -tx1 /dev/urandom | tr -d ' \n'; }

kind="${1:-}" observability="${2:-}"
case "$kind" in core | full) ;; *) echo "usage: environment.sh core|full [observability]" >&2 && exit 2 ;; esac
case "$observability" in '' | observability) ;; *) echo "no such profile: $observability" >&2 && exit 2 ;; esac

rabbitmq="$(secret)" elastic="$(secret)" minio="$(secret)"
cat <<END
COMPOSE_PROFILES=core$([ "$kind" = core ] || echo ,full)${observability:+,observability}
POSTGRES_PASSWORD=$(secret)
DATABASE_PASSWORD=$(secret)
VALKEY_PASSWORD=$(secret)
RABBITMQ_PASSWORD=$rabbitmq
ELASTIC_PASSWORD=$elastic
MINIO_PASSWORD=$minio
GRAFANA_PASSWORD=$(secret)
MESHWRIGHT_ENCRYPTION__MASTER_KEYS=first:$(head -c 32 /dev/urandom | base64)
END
if [ "$kind" = full ]; then
    cat <<END
MESHWRIGHT_EVENTS__URL=kafka://kafka:9092
MESHWRIGHT_DISPATCH__URL=amqp://meshwright:$rabbitmq@rabbitmq:5672/meshwright
MESHWRIGHT_REGISTRY__URL=consul://consul:8500
MESHWRIGHT_OBJECTS__URL=s3://meshwright:$minio@meshwright/objects
MESHWRIGHT_OBJECTS__ENDPOINT=http://minio:9000
MESHWRIGHT_RAG__VECTORS__URL=http://milvus:19530
MESHWRIGHT_RAG__FULL_TEXT__URL=http://elastic:$elastic@elasticsearch:9200
END
fi
[ -z "$observability" ] || echo MESHWRIGHT_TELEMETRY__OTLP_ENDPOINT=http://collector:4318
