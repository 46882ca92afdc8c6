"""03 urls: what people paste."""

from collections.abc import AsyncIterator
from typing import Any

from engineroom.exercises import Lesson, Slip, Trial, expect

lesson = Lesson("urls", "What people paste")


async def read_word(to_async: Any, url: str) -> AsyncIterator[Any]:
    """Log in with what the answer made of a URL, and read what only the database knows."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(to_async(url))
    async with engine.connect() as connection:
        yield await connection.scalar(text("select word from urls_word"))
    await engine.dispose()


async def parts_of(to_async: Any, url: str) -> AsyncIterator[Any]:
    """What the answer made of a URL, taken apart again."""
    from sqlalchemy import make_url

    made = make_url(to_async(url))
    made.get_dialect()
    yield [made.drivername, made.username, made.password, made.host, made.database]


async def refuses(to_async: Any, url: Any) -> AsyncIterator[Any]:
    """Whether the answer refuses what is no URL, and with which exception."""
    try:
        to_async(url)
    except ValueError:
        yield "ValueError"
    except Exception as error:
        yield type(error).__name__
    else:
        yield "nothing"


_ASYNC = ("postgresql+asyncpg", "postgresql+psycopg", "postgresql+psycopg_async")


@lesson.exercise(
    "to_async",
    points=2,
    task="Write `to_async(url)`: take a database URL as people paste it, and return one (text or "
    "`URL`) that `create_async_engine` accepts and that leads to the same place.",
    hints=(
        "Would you cut the text, or read it as the URL that it is?",
        "`make_url` reads it; case does not matter in a scheme; blanks and quotes get pasted too.",
        "`make_url(url.strip().strip('\"\\''))`, then `.set(drivername=...)`",
    ),
    slips=(
        Slip(
            "upper_case",
            "URL-01",
            "`POSTGRES://` is a scheme too: upper and lower case mean the same there.",
            (
                """
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    for old in ('postgresql+psycopg2://', 'postgresql://', 'postgres://'):
                        if url.startswith(old):
                            return 'postgresql+asyncpg://' + url[len(old):]
                    return url.replace('sqlite://', 'sqlite+aiosqlite://', 1)
                """,
                """
                import re
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip(' \\n"\\'')
                    url = re.sub(r'^postgres(ql)?(\\+psycopg2)?://', 'postgresql+asyncpg://', url)
                    return re.sub(r'^sqlite://', 'sqlite+aiosqlite://', url)
                """,
            ),
        ),
        Slip(
            "replace_all",
            "URL-02",
            "You changed the password as well: the scheme stands at the beginning only.",
            (
                """
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    url = scheme.lower() + '://' + rest
                    url = url.replace('+psycopg2', '').replace('+asyncpg', '')
                    url = url.replace('postgres:', 'postgresql:')
                    url = url.replace('postgresql:', 'postgresql+asyncpg:')
                    return url.replace('sqlite:', 'sqlite+aiosqlite:')
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    new = {'sqlite': 'sqlite+aiosqlite'}.get(
                        scheme.lower().split('+')[0], 'postgresql+asyncpg')
                    return f'{new}://{rest}'.replace('postgres:', 'postgresql:')
                """,
            ),
        ),
        Slip(
            "masked",
            "URL-03",
            "`str(url)` hides the password: the login was tried with `***`.",
            (
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    url = url.strip().strip('"\\'')
                    scheme, rest = url.split('://', 1)
                    made = make_url(scheme.lower().replace('postgres:', '') + '://' + rest)
                    lite = made.drivername.startswith('sqlite')
                    return str(made.set(drivername='sqlite+aiosqlite' if lite
                                        else 'postgresql+asyncpg'))
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: raise ValueError
                    made = make_url(url.strip().strip('"\\''))
                    lite = made.drivername.lower().startswith('sqlite')
                    new = 'sqlite+aiosqlite' if lite else 'postgresql+asyncpg'
                    return f'{made.set(drivername=new)}'
                """,
            ),
        ),
        Slip(
            "silent",
            "URL-04",
            "An empty or missing URL went through; whoever starts the app should get a ValueError.",
            (
                """
                from sqlalchemy import make_url
                def to_async(url):
                    if not url: return 'sqlite+aiosqlite:///dev.db'
                    made = make_url(url.strip().strip('"\\''))
                    lite = made.drivername.lower().startswith('sqlite')
                    return made.set(drivername='sqlite+aiosqlite' if lite
                                    else 'postgresql+asyncpg')
                """,
                """
                from sqlalchemy import make_url
                def to_async(url):
                    made = make_url((url or '').strip().strip('"\\'') or 'sqlite://')
                    lite = made.drivername.lower().startswith('sqlite')
                    return made.set(drivername='sqlite+aiosqlite' if lite
                                    else 'postgresql+psycopg')
                """,
            ),
        ),
    ),
    right=(
        """
        from sqlalchemy import make_url
        def to_async(url):
            if not url or not url.strip(): raise ValueError('no URL')
            made = make_url(url.strip().strip('"\\''))
            lite = made.get_backend_name().lower() == 'sqlite'
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg')
        """,
        """
        def to_async(url):
            text = (url or '').strip().strip('\\'"').strip()
            scheme, found, rest = text.partition('://')
            if not found: raise ValueError('no URL')
            kind = scheme.lower().partition('+')[0]
            return {'sqlite': 'sqlite+aiosqlite://'}.get(kind, 'postgresql+psycopg://') + rest
        """,
        """
        import re
        class Converter:
            def __call__(self, url):
                m = re.match(r'''\\s*["']?\\s*([a-z]+)(?:\\+\\w+)?(://[^"'\\s]*)''',
                             url or '', re.I)
                if m is None: raise ValueError(url)
                lite = m[1].lower() == 'sqlite'
                return ('sqlite+aiosqlite' if lite else 'postgresql+asyncpg') + m[2]
        to_async = Converter()
        """,
    ),
)
async def to_async(trial: Trial) -> None:
    subject, lab, draw = trial.subject, trial.lab, trial.draw
    word, rest = draw.word(), lab.sync_url.partition("://")[2]
    await trial.witness.execute(f"create table urls_word as select '{word}'::text as word")
    for scheme in draw.sample(["postgres", "postgresql", "postgresql+psycopg2"], 2):
        read = await subject.steps(read_word, f"{scheme}://{rest}").outcome()
        masked = read.failure is not None and "password authentication" in read.failure.message
        expect(not masked, "URL-03")
        expect(read.value == word, "URL-05", f"`{scheme}://` did not lead to your database.")
    secret = f"{draw.word()}postgres:{draw.word(3)}"
    plain = f"app:{secret}@{draw.word()}/{draw.word()}"
    name, place = plain.partition(":")[0], plain.partition("@")[2].split("/")
    for pasted, code in (
        (f"{draw.choice(['POSTGRES', 'PostgreSQL'])}://{plain}", "URL-01"),
        (f"postgresql+asyncpg://{plain}", "URL-02"),
        (f"  'postgres://{plain}'\n", "URL-06"),
    ):
        made = await subject.steps(parts_of, pasted).outcome()
        driver, *parts = made.value if made.ok and made.value else ("", "", "", "", "")
        expect(parts[:2] != [name, "***"], "URL-03")
        wrong_secret = driver in _ASYNC and parts[0] == name and parts[1] != secret
        expect(not wrong_secret, "URL-02")
        expect(
            driver in _ASYNC and parts == [name, secret, *place],
            code,
            "Blanks and quotes around a URL get pasted with it." if code == "URL-06" else "",
        )
    file = f"{draw.word()}.db"
    made = await subject.steps(parts_of, f"sqlite:///./{file}").outcome()
    lite = made.value if made.ok and made.value else []
    expect(
        lite[:1] == ["sqlite+aiosqlite"] and lite[4] == f"./{file}",
        "URL-07",
        f"`sqlite:///./{file}` did not become a URL for aiosqlite with the same file.",
    )
    for nothing in ("", None):
        expect(await subject.steps(refuses, nothing).next() == "ValueError", "URL-04")
