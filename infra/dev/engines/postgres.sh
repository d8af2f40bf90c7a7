#!/usr/bin/env bash
# Print the folder of `postgres` and `initdb`, from Debian's packages; install them first if they
# are not there.
set -euo pipefail
# shellcheck source=infra/dev/common.sh
. "$(dirname "$0")/../common.sh"

# The extensions of postgresql-contrib are part of Debian's server package.
find_programs() {
    compgen -G '/usr/lib/postgresql/*/bin/postgres' | xargs -r -n 1 dirname | sort -V | tail -n 1
}

one_at_a_time postgres
if [ -z "$(find_programs)" ]; then
    # Without this, installing the package also makes a cluster.
    if [ "$(id -u)" -eq 0 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        mkdir -p /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    apt_install --stopped postgresql postgresql-contrib
fi
find_programs || die "there is no server below /usr/lib/postgresql"
