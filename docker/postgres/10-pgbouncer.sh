#!/bin/sh
# Lets PgBouncer look a role's password up without being a superuser. Runs once, on an empty volume.
set -eu

password=$(sed -n 's/^"pgbouncer" "\(.*\)"$/\1/p' /secrets/userlist.txt)
test -n "$password"

psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d postgres <<SQL
create role pgbouncer login connection limit 50 password '$password';
SQL

# In template1 too: what is there is in every database made later, and PgBouncer 1.18 asks in the
# database that its client wants. A schema of its own survives a lesson's "drop schema public".
for database in postgres template1; do
    psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$database" <<'SQL'
create schema pgbouncer;
grant usage on schema pgbouncer to pgbouncer;

-- Superusers are left out: nobody reaches the server as one through the pooler.
create function pgbouncer.lookup(wanted text)
    returns table (name text, secret text)
    language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$
        select rolname::text, rolpassword from pg_authid
        where rolname = wanted and rolcanlogin and not rolsuper
          and (rolvaliduntil is null or rolvaliduntil > now())
    $$;

revoke execute on function pgbouncer.lookup(text) from public;
grant execute on function pgbouncer.lookup(text) to pgbouncer;
SQL
done
