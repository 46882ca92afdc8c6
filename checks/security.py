"""06 security: secrets, TLS, rights."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Lesson, Slip, Trial, expect

lesson = Lesson(
    "security",
    "Secrets, TLS, rights",
    codes={
        "TLS-01": "An encrypted line to a stranger is still a line to a stranger. Compare with "
        "`lab.impostor.url`: what it heard is in `lab.impostor.heard()`. Let the driver check "
        "the certificate against `lab.ca_file`.",
        "TLS-02": "An authority vouches for many hosts. Without comparing the name in the "
        "certificate with the one in the URL, any of them can stand in for yours.",
        "TLS-03": "A server that offers no TLS may be somebody who took it away. Whoever goes on "
        "in clear tells them the password.",
        "TLS-04": "The real server, whose certificate the authority signed for the name in the "
        "URL, could not be reached.",
        "TLS-05": "Postgres lists for each connection whether it is encrypted; yours was not.",
    },
)

_IMPOSTORS = {"impostor": "TLS-01", "impostor:other_name": "TLS-02", "impostor:no_tls": "TLS-03"}


async def ask_server(verified_engine: Any, url: str, ca_file: str) -> AsyncIterator[Any]:
    """Log in where the URL leads, and read what only the database knows."""
    from sqlalchemy import text

    engine = verified_engine(url, ca_file)
    try:
        async with engine.connect() as connection:
            yield await connection.scalar(text("select word from verified_word"))
    finally:
        await engine.dispose()


@lesson.exercise(
    "verified_engine",
    points=5,
    needs=("postgres", *_IMPOSTORS),
    task="Write `verified_engine(url, ca_file)`: an engine that talks to the server which the "
    "certificate authority in `ca_file` vouches for, by the name in the URL, and to no other.",
    hints=(
        "Encrypted is one thing. Encrypted to whom?",
        "Python's `ssl` module makes a context that checks the authority and the name.",
        "`connect_args={'ssl': ssl.create_default_context(cafile=ca_file)}` for asyncpg",
    ),
    slips=(
        Slip(
            "require",
            "TLS-01",
            "The impostor showed a stranger's certificate, and heard you all the same.",
            (
                """
                def verified_engine(url, ca_file):
                    return create_async_engine(url, connect_args={'ssl': 'require'})
                """,
                """
                import ssl
                def verified_engine(url, ca_file):
                    context = ssl.create_default_context(cafile=ca_file)
                    context.check_hostname = False
                    context.verify_mode = ssl.CERT_NONE
                    return create_async_engine(url, connect_args={'ssl': context})
                """,
            ),
        ),
        Slip(
            "no_hostname",
            "TLS-02",
            "The right authority vouched for another host, and you told that host everything.",
            (
                """
                import ssl
                def verified_engine(url, ca_file):
                    context = ssl.create_default_context(cafile=ca_file)
                    context.check_hostname = False
                    return create_async_engine(url, connect_args={'ssl': context})
                """,
                """
                from sqlalchemy import make_url
                def verified_engine(url, ca_file):
                    made = make_url(url).set(drivername='postgresql+psycopg')
                    return create_async_engine(made.update_query_dict(
                        {'sslmode': 'verify-ca', 'sslrootcert': ca_file}))
                """,
            ),
        ),
        Slip(
            "in_clear",
            "TLS-03",
            "Offered no TLS, you went on in clear.",
            (
                """
                import ssl
                def verified_engine(url, ca_file):
                    async def connect():
                        import asyncpg
                        dsn = url.replace('+asyncpg', '')
                        context = ssl.create_default_context(cafile=ca_file)
                        try:
                            return await asyncpg.connect(dsn, ssl=context)
                        except ConnectionError:
                            return await asyncpg.connect(dsn, ssl=False)
                    return create_async_engine(url, async_creator=connect)
                """,
                """
                import ssl
                from sqlalchemy import event
                def verified_engine(url, ca_file):
                    engine = create_async_engine(url)
                    context = ssl.create_default_context(cafile=ca_file)
                    @event.listens_for(engine.sync_engine, 'do_connect')
                    def first_with(dialect, record, cargs, cparams):
                        try:
                            return dialect.connect(*cargs, **{**cparams, 'ssl': context})
                        except ConnectionError:
                            return dialect.connect(*cargs, **{**cparams, 'ssl': False})
                    return engine
                """,
            ),
        ),
    ),
    right=(
        """
        import ssl
        def verified_engine(url, ca_file):
            context = ssl.create_default_context(cafile=ca_file)
            return create_async_engine(url, connect_args={'ssl': context})
        """,
        """
        from sqlalchemy import make_url
        def verified_engine(url, ca_file):
            made = make_url(url).set(drivername='postgresql+psycopg')
            made = made.update_query_dict({'sslmode': 'verify-full', 'sslrootcert': ca_file})
            return create_async_engine(made)
        """,
        """
        import ssl, asyncpg
        def verified_engine(url, ca_file):
            async def connect():
                return await asyncpg.connect(
                    url.replace('+asyncpg', ''), ssl=ssl.create_default_context(cafile=ca_file))
            return create_async_engine('postgresql+asyncpg://', async_creator=connect)
        """,
    ),
)
async def verified(trial: Trial) -> None:
    subject, lab, witness = trial.subject, trial.lab, trial.witness
    word = trial.draw.word()
    await witness.execute(f"create table verified_word as select '{word}'::text as word")
    for impostor, code in _IMPOSTORS.items():
        before = await witness.overheard(impostor)
        await subject.steps(ask_server, getattr(lab, impostor)["url"], lab.ca_file).outcome()
        expect(await witness.overheard(impostor) == before, code)
    steps = subject.steps(ask_server, lab.url, lab.ca_file)
    expect(await steps.next() == word, "TLS-04", "Your engine did not reach the real server.")
    expect(all(b.tls for b in await witness.backends()), "TLS-05", "Postgres saw you without TLS.")
