"""Who attacks the server: rights, other people's databases, the witness, and what all share."""

from textwrap import dedent

from hostile import CAPPED, NO_POINTS, Case, case

_TRY = """
import psycopg, threading, time
from urllib.parse import urlsplit
from engineroom import lab
class WentThrough(Exception): pass
own = urlsplit(lab.url).path[1:]
def connect(url=lab.sync_url, **how):
    return psycopg.connect(url, autocommit=True, connect_timeout=3, **how)
def run(*statements, **how):
    with connect(**how) as line:
        for statement in statements: line.execute(statement)
def rows(statement):
    with connect() as line: return line.execute(statement).fetchall()
def refused(*statements):
    with connect() as line:
        for statement in statements:
            try: line.execute(statement)
            except psycopg.Error: line.execute('rollback')
            else: raise WentThrough(statement)
"""

_NO_LIMIT = "\ndef capped(url, n, wait):\n    return create_async_engine(url)\n"

WARM = """
from contextlib import AsyncExitStack
async def warm(engine, n):
    async with AsyncExitStack() as stack:
        for _ in range(n):
            await stack.enter_async_context(engine.connect())
"""


def _then(
    name: str, tries: str, attack: str, answer: str = CAPPED, fair: str = "passed", **others: str
) -> Case:
    """An attack when the cell is run, then the answer; a right `warm` beside it, if named."""
    return case(
        name,
        tries,
        fair,
        *([WARM] if "warm" in others else []),
        _TRY + dedent(attack) + answer,
        **others,
    )


def _while(name: str, tries: str, attack: str, fair: str, **others: str) -> Case:
    """An attack in the answer itself, while its check is under way."""
    body = _TRY + "\ndef capped(url, n, wait):" + dedent(attack).replace("\n", "\n    ")
    return case(name, tries, fair, *([WARM] if "warm" in others else []), body, **others)


CASES = [
    # -- rights -----------------------------------------------------------------------------
    _then(
        "makes_itself_superuser",
        "gives its roles more rights",
        """
        for role in ('current_user', f'"{own}_app"'):
            refused(*(f'alter role {role} {right}' for right in (
                'superuser', 'createrole', 'createdb', 'replication', 'bypassrls',
                'connection limit -1')))
        refused('set role postgres', 'set session authorization postgres',
                'set role pg_monitor',
                'grant pg_monitor to current_user', 'grant pg_signal_backend to current_user',
                'grant pg_execute_server_program to current_user',
                'create role hostile_one superuser', 'create user hostile_two',
                'create database hostile_three', 'alter system set log_statement = all',
                'alter user postgres password $$x$$', 'set session_replication_role = replica',
                'set log_min_messages = panic', 'set session_preload_libraries = x',
                "update pg_catalog.pg_authid set rolsuper = true where rolname = current_user",
                'select * from pg_catalog.pg_authid', 'select * from pg_catalog.pg_shadow',
                'set allow_system_table_mods = on')
        """,
    ),
    _then(
        "programs_and_files",
        "runs programs and reads files on the server",
        """
        refused("create temp table t (x text); copy t from program 'id'",
                "create temp table t (x text); copy t from '/etc/passwd'",
                "copy (select 1) to '/tmp/hostile-copy'", "copy (select 1) to program 'id'",
                "select pg_read_file('/etc/passwd')", "select pg_read_binary_file('PG_VERSION')",
                "select pg_ls_dir('.')", "select pg_stat_file('PG_VERSION')",
                "select lo_import('/etc/passwd')", "select lo_export(1, '/tmp/hostile-export')",
                "load 'dblink'", "load '$libdir/plugins/x'",
                "select pg_reload_conf()", "select pg_rotate_logfile()", "select pg_switch_wal()",
                "select pg_ls_logdir()", "select * from pg_hba_file_rules",
                "select pg_create_physical_replication_slot('hostile')",
                "select pg_stat_reset()", "checkpoint",
                "create tablespace hostile location '/tmp'")
        """,
    ),
    _then(
        "extensions_and_languages",
        "installs what reaches out of the database",
        """
        for name in ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'plpython3u', 'plperlu',
                     'pageinspect', 'pg_buffercache', 'pg_stat_statements', 'amcheck'):
            refused(f'create extension {name} cascade')
        refused("create function f() returns int language c as 'libc.so.6', 'system'",
                "create function f() returns int language internal as 'pg_backend_pid'",
                "create language hostile handler plpgsql_call_handler",
                "create foreign data wrapper hostile",
                "create event trigger hostile on ddl_command_end execute function f()",
                "create subscription hostile connection 'host=localhost' publication p")
        """,
    ),
    _then(
        "other_peoples_databases",
        "enters every database, as every role, by all the passwords that it has",
        """
        names = [name for name, in rows('select datname from pg_database order by 1 limit 8')]
        roles = [name for name, in rows(
            'select rolname from pg_roles where rolcanlogin order by random() limit 6')]
        parts = urlsplit(lab.sync_url)
        mine = {own, f'{own}_owner', f'{own}_app'}
        for name in names:
            if name == own: continue
            try: connect(dbname=name)
            except psycopg.Error: pass
            else: raise WentThrough(name)
            refused(f'alter database "{name}" rename to hostile', f'drop database "{name}"',
                    f'alter database "{name}" connection limit 0')
        for role in set(roles) - mine:
            for password in (parts.password, role):
                try: connect(user=role, password=password)
                except psycopg.Error: pass
                else: raise WentThrough(role)
                break
            refused(f'alter role "{role}" password $$x$$', f'drop role "{role}"',
                    f'set role "{role}"', f'grant "{role}" to current_user',
                    f'alter role "{role}" set statement_timeout = 1')
        """,
    ),
    _then(
        "neighbours_in_the_statistics",
        "reads what others do, and ends it",
        """
        seen = rows("select query from pg_stat_activity where usename not like "
                    "current_database() || '%' and query not in ('<insufficient privilege>', '')")
        if seen: raise WentThrough(seen)
        with connect() as line:
            for what in ('pg_terminate_backend', 'pg_cancel_backend'):
                for pid, in line.execute(
                        "select pid from pg_stat_activity where pid <> pg_backend_pid() "
                        "and usename is distinct from current_user").fetchall():
                    try: done = line.execute(f'select {what}({pid})').fetchone()[0]
                    except psycopg.Error: continue
                    if done: raise WentThrough(f'{what} {pid}')
        """,
    ),
    _then(
        "grants_to_neighbours",
        "gives its neighbours rights, so that their roles cannot be dropped",
        """
        with connect() as line:
            line.execute('create schema hostile; create table hostile.gift (n int)')
            for role, in line.execute(
                    "select rolname from pg_roles where rolname like 'er\\\\_%'").fetchall():
                for what in ('table hostile.gift', 'schema hostile', 'schema public',
                             f'database "{own}"'):
                    try: line.execute(f'grant all on {what} to "{role}"')
                    except psycopg.Error: pass  # it has gone by now
                try: line.execute(f'alter default privileges grant all on tables to "{role}"')
                except psycopg.Error: pass
        """,
    ),
    # -- the witness ------------------------------------------------------------------------
    _then(
        "shadows_what_the_witness_asks",
        "puts its own tables and functions in front of those of the server",
        """
        run('''
            create schema hostile;
            create function hostile.boom() returns int language plpgsql security definer as
                $$ begin raise exception 'hostile was called'; end $$;
            create view hostile.pg_stat_activity as
                select *, 1 as datname2 from pg_catalog.pg_stat_activity where false;
            create view public.pg_stat_activity as select * from hostile.pg_stat_activity;
            create function public.pg_backend_pid() returns int language sql as 'select 1';
            create function public.format(text, variadic text[]) returns text
                language plpgsql as $$ begin raise exception 'hostile format'; end $$;
            create function public.eq(name, name) returns bool
                language plpgsql as $$ begin raise exception 'hostile eq'; end $$;
            create operator public.= (leftarg = name, rightarg = name, function = public.eq);
            ''',
            f'alter role current_user set search_path = hostile, public, pg_catalog',
            f'alter database "{own}" set search_path = hostile, public, pg_catalog')
        """,
        answer=_NO_LIMIT,
        fair=NO_POINTS,
        warm="passed",
    ),
    _then(
        "a_gate_of_its_own",
        "has another gate ready than the one which the witness closes",
        """
        run('create view public.gate as select 1 as n')
        """,
        warm="passed",
    ),
    _then(
        "a_gate_with_policies",
        "makes the gate a table with triggers, rules and policies",
        """
        run('create table public.gate (n int); alter table gate enable row level security;'
            'alter table gate force row level security;'
            'create rule hostile as on insert to gate do instead nothing')
        """,
        warm="passed",
    ),
    _while(
        "locks_the_gate",
        "holds the lock that the witness needs",
        """
        global kept
        kept = connect()
        kept.execute('create table if not exists public.gate (n int)')
        kept.autocommit = False
        kept.execute('lock table public.gate in access share mode')
        return create_async_engine(url)
        """,
        NO_POINTS,
        warm="passed",
    ),
    _then(
        "locks_everything",
        "locks all tables that it may lock, and sits on them",
        """
        kept = connect()
        kept.execute('create table public.gate (n int); create table public.pool_word (n int)')
        kept.execute('begin')
        for name, in kept.execute("select oid::regclass::text from pg_class "
                                  "where relkind in ('r', 'v')").fetchall():
            try:
                kept.execute('savepoint s')
                kept.execute(f'lock table {name} in access exclusive mode nowait')
            except psycopg.Error: kept.execute('rollback to s')
        """,
        fair="timed_out",
        warm="passed",
    ),
    _while(
        "ends_every_backend",
        "ends all connections of its own role, the witness's hand too",
        """
        run('select pg_terminate_backend(pid) from pg_stat_activity '
            'where pid <> pg_backend_pid() and usename = current_user')
        return create_async_engine(url)
        """,
        "crashed",
        warm="passed",
    ),
    _while(
        "cancels_every_statement",
        "cancels what anybody of its own role does, again and again",
        """
        def cancel():
            with connect() as line:
                while True: line.execute(
                    'select pg_cancel_backend(pid) from pg_stat_activity '
                    'where pid <> pg_backend_pid() and usename = current_user')
        threading.Thread(target=cancel, daemon=True).start()
        return create_async_engine(url)
        """,
        NO_POINTS,
        warm="passed",
    ),
    _then(
        "the_role_is_set_up",
        "sets for its role what hurts whoever logs in as it",
        """
        run(*(f'alter role current_user set {setting}' for setting in (
            'statement_timeout = 1', 'default_transaction_read_only = on', 'lock_timeout = 1',
            'idle_session_timeout = 1', 'search_path = nowhere', 'role = none',
            'client_min_messages = error', 'standard_conforming_strings = off')))
        """,
        fair="passed|failed|error|timed_out|crashed",
        warm="passed",
    ),
    _then(
        "the_database_is_set_up",
        "sets for its database what hurts whoever enters it",
        """
        run(*(f'alter database "{own}" set {setting}' for setting in (
            'statement_timeout = 1', 'default_transaction_read_only = on', 'lock_timeout = 1',
            'idle_session_timeout = 1', 'search_path = nowhere')))
        """,
        fair="passed|failed|error|timed_out|crashed",
        warm="passed",
    ),
    _then(
        "the_role_in_the_database_is_set_up",
        "sets the same for its role in its database",
        """
        run(f'alter role current_user in database "{own}" set statement_timeout = 1')
        """,
        fair="passed|failed|error|timed_out|crashed",
        warm="passed",
    ),
    _then(
        "nobody_may_enter",
        "allows no connection to its database",
        """
        run(f'alter database "{own}" connection limit 0')
        """,
        fair="error|failed|timed_out",
        warm="passed",
    ),
    _then(
        "a_closed_database",
        "closes its database, makes it a template and changes its comment",
        """
        run(f'alter database "{own}" is_template true',
            f"comment on database \\"{own}\\" is '" + '{"keep": true}' + "'",
            f'revoke all on database "{own}" from current_user',
            f'alter database "{own}" allow_connections false')
        """,
        fair="error|failed",
        warm="passed",
    ),
    _then(
        "another_password",
        "changes its password, and when it ends",
        """
        run("alter role current_user password 'hostile'")
        """,
        fair="error|failed|timed_out",
        warm="passed",
    ),
    _then(
        "drops_its_own",
        "drops whatever it owns, and would drop the database",
        """
        refused(f'drop database "{own}" with (force)',
                f'drop role current_user', 'drop extension plpgsql cascade',
                'drop schema pg_catalog cascade', 'drop schema information_schema cascade')
        run('drop schema public cascade', 'drop owned by current_user cascade')
        """,
        fair="passed|failed|error|crashed",
        warm="passed",
    ),
    _then(
        "prepared_transactions",
        "prepares a transaction that outlives everybody",
        """
        refused("begin; create table hostile (n int); prepare transaction 'hostile'")
        """,
    ),
    # -- what all share ---------------------------------------------------------------------
    _while(
        "fills_the_database",
        "puts 500 MB into its database",
        """
        run('create unlogged table hostile (words text)',
            'alter table hostile alter words set storage external',
            "insert into hostile select repeat('x', 1000000) from generate_series(1, 500)")
        time.sleep(1000)
        """,
        "crashed",
        warm="passed",
    ),
    _while(
        "fills_large_objects",
        "puts as much into large objects",
        """
        run("select lo_from_bytea(0, decode(repeat(words, 10000), 'hex')) "
            "from generate_series(1, 25), (select string_agg(md5(n::text), '') as words "
            'from generate_series(1, 128) n) once')
        time.sleep(1000)
        """,
        "crashed",
        warm="passed",
    ),
    _while(
        "sorts_on_the_disk",
        "sorts more than fits into memory, which goes to files that are in no database",
        """
        run("set work_mem = '64kB'",
            'select count(*) from (select repeat(md5(n::text), 1000) '
            'from generate_series(1, 100000000) n order by 1 offset 1) x')
        """,
        "error",
        warm="passed",
    ),
    _while(
        "hoards_in_the_server",
        "has the server take all memory for one query",
        """
        run("set work_mem = '1TB'", 'set hash_mem_multiplier = 1000', 'set jit = off',
            'select count(*) from (select distinct repeat(md5(n::text), 1000) '
            'from generate_series(1, 1000000000) n) x')
        """,
        "error",
        warm="passed",
    ),
    _while(
        "computes_in_the_server",
        "has the server compute for ever, in all its connections",
        """
        def compute():
            run('select count(*) from generate_series(1, 1000000000000)')
        for _ in range(8): threading.Thread(target=compute, daemon=True).start()
        time.sleep(1000)
        """,
        "timed_out",
        warm="passed",
    ),
    _while(
        "catches_its_own_end",
        "computes for ever, and goes on when it is cancelled",
        """
        run('''do $$ begin loop
            begin perform pg_sleep(1000);
            exception when others or query_canceled then null; end;
        end loop; end $$''')
        """,
        "timed_out",
        warm="passed",
    ),
    _while(
        "takes_every_connection",
        "takes as many connections as it gets, by both roles",
        """
        global kept
        kept = []
        for way in (lab.sync_url, lab.app_url.replace('+asyncpg', '')):
            try:
                while True: kept.append(connect(way))
            except psycopg.Error: pass
        if len(kept) > 64: raise WentThrough(len(kept))
        return create_async_engine(url)
        """,
        NO_POINTS,
        warm="passed",
    ),
    _while(
        "takes_every_lock",
        "fills the table of locks that all databases share",
        """
        kept = connect()
        while True:
            try: kept.execute(
                'select count(pg_advisory_lock(n)) from generate_series(1, 10000000) n')
            except psycopg.Error: time.sleep(0.01)
        """,
        "crashed",
        warm="passed",
    ),
    _while(
        "floods_the_listeners",
        "sends notifications that a listener does not take",
        """
        kept = connect()
        kept.execute('listen hostile')
        kept.execute('begin')
        run(*["select count(pg_notify('hostile', n || repeat('x', 7900))) "
              'from generate_series(1, 3000) n'] * 10)
        time.sleep(1000)
        """,
        "timed_out",
        warm="passed",
    ),
    _then(
        "advisory_locks_of_others",
        "takes the advisory locks that a check might want",
        """
        kept = connect()
        kept.execute('select pg_advisory_lock(n) from generate_series(1, 100) n')
        """,
        warm="passed",
    ),
    _while(
        "many_tables",
        "makes tables until nobody finds anything",
        """
        run("do $$ begin for n in 1..100000 loop execute 'create table hostile_' || n || '()'; "
            'end loop; end $$')
        """,
        NO_POINTS,
        warm="passed",
    ),
    _while(
        "a_transaction_that_rests",
        "leaves a transaction open in the middle of a change",
        """
        global kept
        kept = psycopg.connect(lab.sync_url)
        kept.execute('create table hostile (n int)')
        kept.execute('lock table hostile')
        return create_async_engine(url, pool_size=n - 1, max_overflow=0, pool_timeout=wait)
        """,
        "failed",
        warm="passed",
    ),
    _then(
        "speaks_nonsense",
        "says what is no protocol to the server, on many lines",
        """
        import socket
        for words in (b'GET / HTTP/1.0\\r\\n\\r\\n', b'\\0' * 1000, b'\\xff' * 1000,
                      b'\\0\\0\\0\\x08\\x04\\xd2\\x16\\x2f',
                      b'\\0\\0\\0\\x10\\x04\\xd2\\x16\\x2e' + b'\\xff' * 8):
            for _ in range(10):
                try:
                    line = socket.create_connection(('127.0.0.1', urlsplit(lab.url).port), 1)
                    line.sendall(words)
                    line.close()
                except OSError: pass
        """,
        fair="passed",
    ),
]
