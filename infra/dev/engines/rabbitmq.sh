#!/usr/bin/env bash
# Print the folder of RabbitMQ's own scripts, from Debian's package; install it first if it is not
# there. (Debian's wrapper in /usr/sbin runs as its own account only and is of no use here.)
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

find_scripts() { compgen -G '/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin' | sort -V | tail -n 1; }

one_at_a_time rabbitmq
[ -n "$(find_scripts)" ] || apt_install --stopped rabbitmq-server
find_scripts || die "there is no server below /usr/lib/rabbitmq"
