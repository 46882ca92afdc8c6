"""Plausible wrong answers for pooling: each must fail, beside the slips."""

WRONG = {
    "pooling.ceiling": [
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=n + 1, max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=n - 1, max_overflow=0, pool_timeout=wait)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url, pool_size=5, max_overflow=0, pool_timeout=0.2)
        capped.limit = 5
        """,
        """
        from sqlalchemy.pool import NullPool
        def capped(url, n, wait):
            return create_async_engine(url, poolclass=NullPool)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(
                url, pool_size=n, max_overflow=0, pool_timeout=wait * 1000)
        """,
        """
        def capped(url, n, wait):
            return create_async_engine(url)
        """,
        """
        def capped(url, n, wait):
            return None
        """,
    ],
}
