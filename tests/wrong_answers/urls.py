"""Plausible wrong answers for urls: each must fail, beside the slips."""

WRONG = {
    "urls.to_async": [
        """
        def to_async(url):
            return url
        """,
        """
        def to_async(url):
            return 'postgresql+asyncpg://' + url.split('://')[1]
        """,
        """
        def to_async(url):
            raise ValueError(url)
        """,
        """
        from sqlalchemy import make_url
        def to_async(url):
            return make_url(url.strip()).set(drivername='postgresql+asyncpg')
        """,
        """
        from engineroom import lab
        def to_async(url):
            if not url: raise ValueError
            return lab.url
        """,
        """
        def to_async(url):
            if not url: raise ValueError
            return 'sqlite+aiosqlite://'
        """,
    ],
}
