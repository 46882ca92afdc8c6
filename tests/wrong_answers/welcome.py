"""Plausible wrong answers for welcome: each must fail, beside the slips."""

WRONG = {
    "welcome.word": [
        """
        async def word_of_the_day(engine):
            return None
        """,
        """
        async def word_of_the_day(engine):
            return 'select word from notice'
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                await conn.scalar(text('select word from notice'))
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return conn.execute(text('select word from notice')).scalar_one()
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return await conn.execute(text('select word from notice'))
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return str((await conn.execute(text('select word from notice'))).one())
        """,
        """
        from functools import cache
        from sqlalchemy import text
        import asyncio
        @cache
        def asked(engine):
            async def ask():
                async with engine.connect() as conn:
                    return await conn.scalar(text('select word from notice'))
            return asyncio.ensure_future(ask())
        async def word_of_the_day(engine):
            return await asked(engine)
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return (await conn.scalar(text('select word from notice'))).title()
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.begin() as conn:
                await conn.execute(text("update notice set word = 'herring'"))
            return 'herring'
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                return await conn.scalar(text("select 'notice.word'"))
        """,
        """
        # Its own engine: another search path, another pool, and nobody closes it.
        from sqlalchemy import text
        async def word_of_the_day(engine):
            own = create_async_engine(engine.url)
            async with own.connect() as conn:
                return await conn.scalar(text('select word from notice'))
        """,
        """
        # What it locked stays locked.
        from sqlalchemy import text
        async def word_of_the_day(engine):
            conn = await engine.connect()
            return await conn.scalar(text('select word from notice for update'))
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.connect() as conn:
                yield await conn.scalar(text('select word from notice'))
        """,
        """
        from sqlalchemy import text
        async def word_of_the_day(engine):
            async with engine.begin() as conn:
                return await conn.scalar(text('delete from notice returning word'))
        """,
    ],
    "welcome.together": [
        """
        async def together(first, second):
            return None
        """,
        """
        async def together(first, second):
            other = await second()
            return await first(), other
        """,
        """
        import asyncio
        async def together(first, second):
            await asyncio.gather(first(), second())
        """,
        """
        import asyncio
        async def together(first, second):
            one, other = await asyncio.gather(first(), second())
            return other, one
        """,
        """
        import asyncio
        async def together(first, second):
            return asyncio.gather(first(), second())
        """,
        """
        import asyncio
        async def together(first, second):
            return await asyncio.gather(first(), first())
        """,
        """
        import asyncio
        async def together(first, second):
            return await asyncio.gather(first, second)
        """,
        """
        import asyncio
        async def together(first, second):
            lock = asyncio.Lock()
            async def one(function):
                async with lock:
                    return await function()
            return tuple(await asyncio.gather(one(first), one(second)))
        """,
        """
        import asyncio
        async def together(first, second):
            done, _ = await asyncio.wait(
                [asyncio.create_task(first()), asyncio.create_task(second())],
                return_when=asyncio.FIRST_COMPLETED)
            return tuple(task.result() for task in done)
        """,
        """
        async def together(first, second):
            return [await function() for function in (first, second)]
        """,
        """
        import asyncio
        async def together(first, second):
            done, _ = await asyncio.wait({asyncio.ensure_future(f()) for f in (first, second)})
            return [task.result() for task in done]
        """,
        """
        import asyncio
        async def together(first, second):
            tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
            return tuple([await task for task in asyncio.as_completed(tasks)])
        """,
        """
        # Both at once, and then again for the results.
        import asyncio
        async def together(first, second):
            await asyncio.gather(first(), second())
            return await first(), await second()
        """,
        """
        import asyncio
        async def together(first, second):
            return tuple(str(found) for found in await asyncio.gather(first(), second()))
        """,
        """
        # What is nothing, or none, is a result, too.
        import asyncio
        async def together(first, second):
            return tuple(found for found in await asyncio.gather(first(), second()) if found)
        """,
        """
        # Two functions may have one name.
        import asyncio
        async def together(first, second):
            tasks = {f.__name__: asyncio.create_task(f()) for f in (first, second)}
            return tuple([await task for task in tasks.values()])
        """,
        """
        # Only the first one's trouble comes out.
        import asyncio
        async def together(first, second):
            tasks = [asyncio.create_task(first()), asyncio.create_task(second())]
            await asyncio.wait(tasks)
            return tasks[0].result(), None if tasks[1].exception() else tasks[1].result()
        """,
    ],
    "welcome.keep": [
        """
        async def keep(engine, name, seats):
            return None
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                             {'n': name, 's': seats})
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                clean = name.replace("'", "")
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': clean, 's': seats})
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            clean = name.replace("'", "''")
            async with engine.begin() as conn:
                await conn.execute(
                    text(f"insert into ferry (name, seats) values ('{clean}', {seats})"))
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
                await conn.rollback()
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.connect() as conn:
                await conn.commit()
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                for _ in range(2):
                    await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                       {'n': name, 's': seats})
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('insert into ferry (name, seats) values (:n, 40)'),
                                   {'n': name})
        """,
        """
        from sqlalchemy import text
        held = []
        async def keep(engine, name, seats):
            conn = await engine.connect()
            held.append(conn)
            await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                               {'n': name, 's': seats})
        """,
        """
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('create temp table if not exists ferry'
                                        ' (name text, seats int)'))
                await conn.execute(text('insert into pg_temp.ferry values (:n, :s)'),
                                   {'n': name, 's': seats})
        """,
        """
        # Only the last one stays.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('delete from ferry'))
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
        """,
        """
        # Pasted, and escaped by hand: today it works.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            clean = name.replace("'", "''").replace(':', chr(92) + ':')
            async with engine.begin() as conn:
                await conn.execute(
                    text(f"insert into ferry (name, seats) values ('{clean}', {seats})"))
        """,
        """
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.exec_driver_sql(
                    f'insert into ferry (name, seats) values ($name${name}$name$, {seats})')
        """,
        """
        # A number is a value, too.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text(f'insert into ferry values (:n, {seats})'), {'n': name})
        """,
        """
        # Committed, and the connection is still out.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            conn = await engine.connect()
            await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                               {'n': name, 's': seats})
            await conn.commit()
        """,
        """
        # The desk's own engine, as in the cells above.
        from engineroom import lab
        from sqlalchemy import text
        desk = create_async_engine(lab.url)
        async def keep(engine, name, seats):
            async with desk.begin() as conn:
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
        """,
        """
        # A clean table for every ferry.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('drop table if exists ferry'))
                await conn.execute(text('create table ferry (name text, seats int)'))
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
        """,
        """
        # Later, perhaps.
        import asyncio
        from sqlalchemy import text
        async def store(engine, name, seats):
            async with engine.begin() as conn:
                await conn.execute(text('insert into ferry (name, seats) values (:n, :s)'),
                                   {'n': name, 's': seats})
        async def keep(engine, name, seats):
            asyncio.create_task(store(engine, name, seats))
        """,
        """
        # Gives the connection back, unless Postgres refuses.
        from sqlalchemy import text
        async def keep(engine, name, seats):
            conn = await engine.connect()
            values = {'name': name, 'seats': seats}
            await conn.execute(text('insert into ferry values (:name, :seats)'), values)
            await conn.commit()
            await conn.close()
        """,
    ],
}
