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
    ],
}
