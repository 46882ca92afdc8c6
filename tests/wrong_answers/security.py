"""Plausible wrong answers for security: each must fail, beside the slips."""

WRONG = {
    "security.verified": [
        """
        def verified_engine(url, ca_file):
            return create_async_engine(url)
        """,
        """
        import ssl
        def verified_engine(url, ca_file):
            return create_async_engine(
                url, connect_args={'ssl': ssl.create_default_context()})
        """,
        """
        def verified_engine(url, ca_file):
            return create_async_engine(url.replace('+asyncpg', '+psycopg') + '?sslmode=require')
        """,
        """
        def verified_engine(url, ca_file):
            return create_async_engine(url, connect_args={'ssl': 'verify-full'})
        """,
        """
        def verified_engine(url, ca_file):
            return create_async_engine('sqlite+aiosqlite://')
        """,
    ],
}
