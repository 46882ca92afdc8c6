#!/bin/bash
# The part of the official image's contract that this project relies on, in its own words.
set -euo pipefail

say() { echo "stand-in: $*" >&2; }
give_up() { say "$*"; exit 1; }

# NAME, or the content of the file that NAME_FILE names, or a default.
setting() {
    local name=$1 file_name=$1_FILE value=${2:-}
    if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
        give_up "$name and $file_name are both set"
    elif [ -n "${!name:-}" ]; then
        value=${!name}
    elif [ -n "${!file_name:-}" ]; then
        value=$(<"${!file_name}")
    fi
    export "$name=$value"
    unset "$file_name"
}

make_cluster() {
    [ -n "$POSTGRES_PASSWORD" ] || [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ] \
        || give_up "the database is empty and POSTGRES_PASSWORD is not set"
    # shellcheck disable=SC2086 # the arguments are meant to be split
    initdb --username="$POSTGRES_USER" --pwfile=<(echo "$POSTGRES_PASSWORD") $POSTGRES_INITDB_ARGS
    echo "host all all all ${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}" >>"$PGDATA/pg_hba.conf"
}

run_init_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        say "running $file"
        case $file in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) query --dbname "$POSTGRES_DB" -f "$file" ;;
            *) say "left out $file" ;;
        esac
    done
}

query() { psql -v ON_ERROR_STOP=1 --no-password --username "$POSTGRES_USER" "$@"; }

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

if grep -q ' /var/lib/postgresql/data ' /proc/self/mountinfo; then
    give_up "since 18 the volume belongs at /var/lib/postgresql, not at /var/lib/postgresql/data"
fi

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA"
    find /var/lib/postgresql \! -user postgres -exec chown postgres '{}' +
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "${BASH_SOURCE[0]}" "$@"
fi

setting POSTGRES_PASSWORD
setting POSTGRES_USER postgres
setting POSTGRES_DB "$POSTGRES_USER"
setting POSTGRES_INITDB_ARGS

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    make_cluster
    # Nobody outside may meet the server before the scripts are through: sockets only.
    pg_ctl -w -o "$(printf '%q ' "${@:2}" -c listen_addresses=)" start
    export PGPASSWORD=$POSTGRES_PASSWORD
    [ "$POSTGRES_DB" = postgres ] \
        || query --dbname postgres -c "create database \"$POSTGRES_DB\""
    shopt -s nullglob
    run_init_scripts
    pg_ctl -m fast -w stop
    unset PGPASSWORD
fi

exec "$@"
