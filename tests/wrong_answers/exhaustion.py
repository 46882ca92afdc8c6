"""Plausible wrong answers for exhaustion: each must fail, beside the slips."""

WRONG = {
    "exhaustion.who_holds": [
        """
        async def who_holds(engine):
            return []
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, query, pg_terminate_backend(pid) from pg_stat_activity"
                    " where state like 'idle in transaction%'"))
                return [(pid, query) for pid, query, _ in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, state from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, query from pg_stat_activity"
                    " where state like 'idle in transaction%' union all"
                    " select a.pid, a.query from pg_stat_activity a, pg_stat_activity w"
                    " where a.pid = any(pg_blocking_pids(w.pid))"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        seen = []
        async def who_holds(engine):
            if not seen:
                async with engine.connect() as conn:
                    seen.extend((await conn.execute(text(
                        "select pid, query from pg_stat_activity"
                        " where state like 'idle in transaction%' or pid in"
                        " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"
                    ))).all())
            return seen
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                return rows.scalars().all()
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, mode from pg_locks where granted and locktype = 'relation'"))
                return list({tuple(row) for row in rows})
        """,
        """
        async def who_holds(engine):
            return [(1, engine.pool.status())]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select h.pid, h.query from pg_stat_activity h left join pg_stat_activity w"
                    " on h.pid = any(pg_blocking_pids(w.pid))"
                    " where w.pid is not null or h.state like 'idle in transaction%'"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select pid, query from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select (pg_blocking_pids(w.pid))[1] from pg_stat_activity w)"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = (await conn.execute(text(
                    "select pid, query, state, pg_blocking_pids(pid) as waits_for"
                    " from pg_stat_activity"))).all()
            blockers = {pid for row in rows for pid in row.waits_for}
            return [(r.pid, r.query) for r in rows if not r.waits_for
                    and (r.pid in blockers or 'in transaction' in (r.state or ''))]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.begin() as conn:
                rows = await conn.execute(text(
                    "select pid, query, pg_terminate_backend(pid) from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                return [(pid, query) for pid, query, _ in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.begin() as conn:
                rows = await conn.execute(text(
                    "select pid, query, pg_cancel_backend(pid) from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
                return [(pid, query) for pid, query, _ in rows]
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                rows = await conn.execute(text(
                    "select distinct a.pid, a.query from pg_stat_activity a"
                    " left join pg_locks held on held.pid = a.pid and held.granted"
                    " left join pg_locks wanted on not wanted.granted"
                    " and wanted.transactionid = held.transactionid"
                    " where wanted.pid is not null or a.state like 'idle in transaction%'"))
                return [tuple(row) for row in rows]
        """,
        """
        from sqlalchemy import text
        kept = []
        async def who_holds(engine):
            conn = await engine.connect()
            kept.append(conn)
            rows = (await conn.execute(text(
                "select pid, query from pg_stat_activity"
                " where state like 'idle in transaction%' or pid in"
                " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))).all()
            await conn.commit()
            return rows
        """,
        """
        from sqlalchemy import text
        async def who_holds(engine):
            async with engine.connect() as conn:
                return await conn.execute(text(
                    "select pid, query from pg_stat_activity"
                    " where state like 'idle in transaction%' or pid in"
                    " (select unnest(pg_blocking_pids(w.pid)) from pg_stat_activity w)"))
        """,
    ],
    "exhaustion.let_go": [
        """
        async def book(factory, sailing_id, passenger, notify):
            await notify('ALCA01')
            return 'ALCA01'
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    params={'s': sailing_id, 'p': passenger})).scalar()
            return code
        """,
        """
        import asyncio
        from sqlalchemy import text
        tasks = []
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    params={'s': sailing_id, 'p': passenger})).scalar()
            tasks.append(asyncio.create_task(notify(code)))
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            engine = factory.kw['bind'].execution_options(isolation_level='AUTOCOMMIT')
            async with engine.connect() as conn:
                code = await conn.scalar(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    {'s': sailing_id, 'p': passenger})
                await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory.kw['bind'].connect() as conn:
                code = await conn.scalar(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    {'s': sailing_id, 'p': passenger})
                await conn.commit()
                await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as session:
                code = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    params={'s': sailing_id, 'p': passenger})).scalar()
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = (await session.exec(text(
                    f"insert into booking (sailing_id, passenger)"
                    f" values ({sailing_id}, '{passenger}') returning code"))).scalar()
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                number = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning id"),
                    params={'s': sailing_id, 'p': passenger})).scalar()
            await notify(number)
            return number
        """,
        """
        from sqlalchemy import text
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as session:
                code = (await session.exec(text(
                    "insert into booking (sailing_id, passenger) values (:s, :p) returning code"),
                    params={'s': sailing_id, 'p': passenger})).scalar()
                await session.commit()
                await session.connection()
                await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p)")
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as session:
                await session.exec(STORE, params={'s': sailing_id, 'p': passenger})
                code = await session.scalar(
                    text("select code from booking where passenger = :p order by id"),
                    {'p': passenger})
                await session.commit()
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p)")
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as session:
                await session.exec(STORE, params={'s': sailing_id, 'p': passenger})
                await session.commit()
            async with factory() as session:
                code = await session.scalar(
                    text("select code from booking order by id desc limit 1"))
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = await session.scalar(STORE, {"s": sailing_id, "p": passenger})
            await notify(code)
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        import asyncio
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = await session.scalar(STORE, {"s": sailing_id, "p": passenger})
            try:
                await asyncio.wait_for(notify(code), 0.01)
            except Exception:
                pass
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = (await session.execute(STORE, {"s": sailing_id, "p": passenger})).one()
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                code = await session.scalar(STORE, {"s": sailing_id, "p": passenger})
            try:
                await notify(code)
            except Exception:
                return None
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory() as s:
                engine = create_async_engine(s.bind.url)
            async with engine.begin() as conn:
                code = await conn.scalar(STORE, {"s": sailing_id, "p": passenger})
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            for attempt in range(2):
                async with factory.begin() as session:
                    code = await session.scalar(STORE, {"s": sailing_id, "p": passenger})
                try:
                    await notify(code)
                    return code
                except Exception:
                    continue
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            session = factory()
            r = await session.exec(STORE, params={'s': sailing_id, 'p': passenger})
            code = r.scalar_one()
            await session.commit()
            await notify(code)
            await session.exec(text("select 1"))
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p) returning code")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                earlier = await session.scalar(
                    text("select code from booking where passenger = :p"), {'p': passenger})
                if earlier:
                    return earlier
                code = await session.scalar(STORE, {"s": sailing_id, "p": passenger})
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p)")
        NEWEST = text(
            "select code from booking where passenger = :p and sailing_id = :s"
            " order by id desc limit 1")
        async def book(factory, sailing_id, passenger, notify):
            values = {'s': sailing_id, 'p': passenger}
            async with factory.begin() as session:
                await session.exec(STORE, params=values)
            async with factory() as session:
                code = await session.scalar(NEWEST, values)
            await notify(code)
            return code
        """,
        """
        from sqlalchemy import text
        STORE = text(
            "insert into booking (sailing_id, passenger) values (:s, :p)")
        LAST = text(
            "select code from booking where id = (select max(id) from booking)")
        async def book(factory, sailing_id, passenger, notify):
            async with factory.begin() as session:
                await session.exec(STORE, params={'s': sailing_id, 'p': passenger})
                code = await session.scalar(LAST)
            await notify(code)
            return code
        """,
    ],
    "exhaustion.all_boards": [
        """
        async def all_boards(factory, ids, load, at_most):
            return [id for id in ids]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(5)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most - 1)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return [await done for done in asyncio.as_completed([one(id) for id in ids])]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return await asyncio.gather(*(one(id) for id in ids), return_exceptions=True)
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn:
                    session = factory()
                try:
                    return await load(session, id)
                finally:
                    await session.close()
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn:
                    return await load(factory(), id)
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn, factory() as session:
                    try:
                        return await load(session, id)
                    except LookupError:
                        return None
            return await asyncio.gather(*(one(id) for id in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            found = []
            async def worker(part):
                async with factory() as session:
                    found.extend([await load(session, id) for id in part])
            await asyncio.gather(*(worker(ids[n::at_most]) for n in range(at_most)))
            return found
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            async def one(i):
                async with factory() as session:
                    return await load(session, i)
            out = []
            for k in range(0, len(ids), at_most):
                out += await asyncio.gather(*(one(i) for i in ids[k:k+at_most]))
            return out
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            it = iter(enumerate(ids)); res = {}
            async def w():
                async with factory() as s:
                    for n, i in it:
                        res[n] = await load(s, i)
            async with asyncio.TaskGroup() as g:
                for _ in range(at_most): g.create_task(w())
            return [res[n] for n in range(len(ids))]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            gate = asyncio.Semaphore(at_most)
            async def one(i):
                async with gate, factory() as session:
                    await load(session, i)
                    return await load(session, i)
            return await asyncio.gather(*(one(i) for i in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            gate = asyncio.Semaphore(at_most)
            async def one(i):
                async with gate, factory() as session:
                    return await load(session, i)
            return [r for r in await asyncio.gather(*(one(i) for i in ids)) if r]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            gate = asyncio.Semaphore(at_most)
            async def one(i):
                async with gate, factory() as session:
                    return await load(session, i)
            tasks = [asyncio.create_task(one(i)) for i in ids]
            done, _ = await asyncio.wait(tasks)
            return [t.result() for t in tasks]
        """,
        """
        import asyncio
        GATE = asyncio.Semaphore(3)
        async def all_boards(factory, ids, load, at_most):
            async def one(i):
                async with GATE, factory() as session:
                    return await load(session, i)
            return await asyncio.gather(*(one(i) for i in ids))
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            found, count = {}, len(ids)
            async def worker():
                while ids:
                    place, id = count - len(ids), ids.pop(0)
                    async with factory() as session:
                        found[place] = await load(session, id)
            await asyncio.gather(*(worker() for _ in range(at_most)))
            return [found[place] for place in range(count)]
        """,
        """
        import asyncio
        async def all_boards(factory, ids, load, at_most):
            turn = asyncio.Semaphore(at_most)
            async def one(id):
                async with turn, factory() as session:
                    return await load(session, id)
            return dict(zip(ids, await asyncio.gather(*(one(id) for id in ids))))
        """,
    ],
    "exhaustion.fair_share": [
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            return 5, 10
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved) // (instances * workers)
            if each < 1:
                raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // workers
            if each < 1:
                raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            return max(1, (max_connections - reserved - others) // (instances * workers)), 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each < 1:
                raise ValueError
            return 0, each
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) / (instances * workers)
            if each < 1:
                raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances + workers)
            if each < 1:
                raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = -(-(max_connections - reserved - others) // (instances * workers))
            if each < 1:
                raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each < 2:
                raise ValueError
            return each - 1, 1
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each < 1:
                return None
            return each
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            return 1, -1
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each == 0: raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others - 1) // (instances * workers)
            if each < 1: raise ValueError
            return each, 0
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = (max_connections - reserved - others) // (instances * workers)
            if each < 1: raise ValueError
            return min(each, 5), min(max(each - 5, 0), 10)
        """,
        """
        def fair_share(max_connections, reserved, others, instances, workers):
            each = int((max_connections - reserved - others) * 0.8) // (instances * workers)
            if each < 1: raise ValueError
            return each, 0
        """,
    ],
    "exhaustion.bouncer": [
        """
        def bouncer_engine(url):
            return create_async_engine(url)
        """,
        """
        from engineroom import lab
        def bouncer_engine(url):
            return create_async_engine(lab.url, connect_args={'statement_cache_size': 0})
        """,
        """
        from sqlalchemy.pool import NullPool
        def bouncer_engine(url):
            return create_async_engine(url, poolclass=NullPool, pool_size=5)
        """,
        """
        import uuid
        from sqlalchemy.pool import NullPool
        def bouncer_engine(url):
            return create_async_engine(url, poolclass=NullPool, connect_args={
                'prepared_statement_name_func': lambda: f'__asyncpg_{uuid.uuid4()}__'})
        """,
        """
        def bouncer_engine(url):
            return create_async_engine(
                url, connect_args={'statement_cache_size': 0, 'server_settings': {'jit': 'off'}})
        """,
        """
        from sqlalchemy.pool import StaticPool
        def bouncer_engine(url):
            return create_async_engine(
                url, poolclass=StaticPool, connect_args={'statement_cache_size': 0})
        """,
        """
        def bouncer_engine(url):
            return create_async_engine(
                url.replace('+asyncpg', '+psycopg'), connect_args={'prepare_threshold': 0})
        """,
        """
        from sqlalchemy import event
        from sqlalchemy.pool import NullPool
        def bouncer_engine(url):
            engine = create_async_engine(
                url, poolclass=NullPool, connect_args={'statement_cache_size': 0})
            @event.listens_for(engine.sync_engine, 'connect')
            def clean(connection, record):
                cursor = connection.cursor()
                cursor.execute('deallocate all')
                cursor.close()
                connection.commit()
            return engine
        """,
        """
        def bouncer_engine(url):
            return create_async_engine('sqlite+aiosqlite://')
        """,
        """
        def bouncer_engine(url):
            return create_async_engine(
                url.replace('+asyncpg', '+psycopg'), connect_args={'prepare_threshold': 50})
        """,
        """
        from sqlalchemy import create_engine
        def bouncer_engine(url):
            return create_engine(
                url.replace('+asyncpg', '+psycopg'), connect_args={'prepare_threshold': None})
        """,
        """
        from sqlalchemy import event
        def bouncer_engine(url):
            engine = create_async_engine(url, connect_args={'statement_cache_size': 0})
            @event.listens_for(engine.sync_engine, 'connect')
            def patience(connection, record):
                cursor = connection.cursor()
                cursor.execute("set statement_timeout = '30s'")
                cursor.close()
                connection.commit()
            return engine
        """,
    ],
    "exhaustion.triage": [
        """
        def triage(error):
            return 'other'
        """,
        """
        def triage(error):
            return 'pool' if 'QueuePool' in str(error) else 'server'
        """,
        """
        def triage(error):
            if isinstance(error, TimeoutError):
                return 'pool'
            said = str(error)
            if 'too many' in said or 'slots' in said:
                return 'server'
            return 'password' if 'authentication failed' in said else 'other'
        """,
        """
        from sqlalchemy.exc import OperationalError, TimeoutError
        def triage(error):
            if isinstance(error, TimeoutError):
                return 'pool'
            if isinstance(error, OperationalError):
                return 'password' if 'password' in str(error) else 'server'
            state = getattr(getattr(error, 'orig', None), 'sqlstate', '')
            return {'53300': 'server', '28P01': 'password'}.get(state, 'other')
        """,
        """
        from sqlalchemy.exc import TimeoutError
        def triage(error):
            if isinstance(error, TimeoutError):
                return 'pool'
            if 'slots' in str(error) or 'too many' in str(error):
                return 'server'
            if 'database' in str(error) or 'password' in str(error):
                return 'password'
            return 'other'
        """,
        """
        def triage(error):
            print(type(error))
        """,
        """
        async def triage(error):
            return 'pool'
        """,
        """
        import sqlalchemy as sa
        FULL = ('connection slots', 'too many clients', 'too many connections')
        def triage(error):
            if isinstance(error, sa.exc.TimeoutError):
                return 'pool'
            orig = getattr(error, 'orig', None)
            state, said = getattr(orig, 'sqlstate', None) or '', str(orig)
            if state.startswith('53') or not state and any(words in said for words in FULL):
                return 'server'
            refused = 'password authentication failed' in said
            return 'password' if state == '28P01' or not state and refused else 'other'
        """,
        """
        import sqlalchemy as sa
        FULL = ('connection slots', 'too many clients')
        def triage(error):
            if isinstance(error, sa.exc.TimeoutError):
                return 'pool'
            orig = getattr(error, 'orig', None)
            state, said = getattr(orig, 'sqlstate', None) or '', str(orig)
            if state == '53300' or not state and any(words in said for words in FULL):
                return 'server'
            refused = 'password authentication failed' in said
            return 'password' if state == '28P01' or not state and refused else 'other'
        """,
        """
        import sqlalchemy as sa
        FULL = ('connection slots', 'too many clients', 'too many connections')
        def triage(error):
            if isinstance(error, sa.exc.SQLAlchemyError) and not hasattr(error, 'orig'):
                return 'pool'
            orig = getattr(error, 'orig', None)
            state, said = getattr(orig, 'sqlstate', None) or '', str(orig)
            if state == '53300' or not state and any(words in said for words in FULL):
                return 'server'
            refused = 'password authentication failed' in said
            return 'password' if state == '28P01' or not state and refused else 'other'
        """,
        """
        def triage(error):
            said = str(error)
            if 'QueuePool limit' in said:
                return 'pool'
            if 'connection slots' in said or 'too many' in said:
                return 'server'
            return 'password' if 'password authentication failed' in said else 'other'
        """,
    ],
    "exhaustion.own_limit": [
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = '{milliseconds}s'"))
                return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local lock_timeout = {milliseconds}"))
                return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.execution_options(isolation_level='AUTOCOMMIT').connect() as conn:
                await conn.execute(text(f"set statement_timeout = {milliseconds}"))
                rows = (await conn.execute(text(statement))).all()
                await conn.execute(text("reset statement_timeout"))
                return rows
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                await conn.execute(text(statement))
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            try:
                async with engine.begin() as conn:
                    await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                    return (await conn.execute(text(statement))).all()
            except Exception:
                return []
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            conn = await engine.connect()
            await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
            rows = (await conn.execute(text(statement))).all()
            await conn.commit()
            return rows
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                await conn.execute(text(f"set session statement_timeout = {milliseconds}"))
                return (await conn.execute(text(statement))).all()
        """,
        """
        async def limited(engine, statement, milliseconds):
            return []
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                return [(await conn.execute(text(statement))).first()]
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                if (await conn.execute(text(statement))).returns_rows:
                    return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                await conn.execute(text("set lock_timeout = 5000"))
                return (await conn.execute(text(statement))).all()
        """,
        """
        from sqlalchemy import text
        async def limited(engine, statement, milliseconds):
            async with engine.begin() as conn:
                await conn.execute(text(f"set local statement_timeout = {milliseconds}"))
                return await conn.execute(text(statement))
        """,
        """
        import asyncpg
        from engineroom import lab
        async def limited(engine, statement, milliseconds):
            conn = await asyncpg.connect(
                lab.url.replace('+asyncpg', ''),
                server_settings={'statement_timeout': str(milliseconds)})
            try:
                return [tuple(row) for row in await conn.fetch(statement)]
            finally:
                await conn.close()
        """,
    ],
}
