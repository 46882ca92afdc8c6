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
        """
        # What many a tutorial has, with care for text that was pasted badly.
        def to_async(url):
            if not url: raise ValueError
            url = url.strip(' \\n"\\'')
            for old, new in {'postgres:': 'postgresql+asyncpg:',
                             'postgresql:': 'postgresql+asyncpg:',
                             'sqlite:': 'sqlite+aiosqlite:'}.items():
                if url.lower().startswith(old):
                    return new + url[len(old):]
            return url
        """,
        """
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip(' \\n"\\'').lower())
            lite = made.drivername.startswith('sqlite')
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg',
                            database=None)
        """,
        """
        # What is only blanks and quotes becomes a database that nobody chose.
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip().strip('"\\'').strip() or 'sqlite://')
            lite = made.drivername.lower().startswith('sqlite')
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg')
        """,
        """
        # What is not Postgres must be SQLite.
        def to_async(url):
            if not url: raise ValueError
            scheme, _, rest = url.strip(' \\n"\\'').partition('://')
            postgres = scheme.lower().startswith('postgres')
            return ('postgresql+asyncpg://' if postgres else 'sqlite+aiosqlite://') + rest
        """,
        """
        # Of the query nothing is left, and the place stood in it.
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip().strip('"\\''))
            lite = made.drivername.lower().startswith('sqlite')
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg',
                            query={})
        """,
        """
        # One kind of quotes.
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip().strip("'"))
            lite = 'sqlite' in made.drivername.lower()
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg')
        """,
        """
        # Undoes the escapes, and so changes the password.
        from urllib.parse import unquote
        def to_async(url):
            if not url or '://' not in url: raise ValueError
            scheme, _, rest = unquote(url.strip(' \\n"\\'')).partition('://')
            lite = scheme.lower().startswith('sqlite')
            return ('sqlite+aiosqlite://' if lite else 'postgresql+asyncpg://') + rest
        """,
        """
        # SQLite in lower case only.
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip().strip('"\\''))
            if made.drivername == 'sqlite':
                return made.set(drivername='sqlite+aiosqlite')
            if made.drivername == 'sqlite+aiosqlite':
                return made
            return made.set(drivername='postgresql+asyncpg')
        """,
        """
        # Every file is in the folder where the program runs.
        from sqlalchemy import make_url
        def to_async(url):
            if not url: raise ValueError
            made = make_url(url.strip().strip('"\\''))
            if 'sqlite' in made.drivername.lower():
                return 'sqlite+aiosqlite:///' + made.database.lstrip('/')
            return made.set(drivername='postgresql+asyncpg')
        """,
        """
        # Leaves alone what is async already, and its capitals with it.
        from sqlalchemy import make_url
        KNOWN = {'postgresql+asyncpg', 'postgresql+psycopg', 'sqlite+aiosqlite'}
        def to_async(url):
            if not url or not url.strip(): raise ValueError
            made = make_url(url.strip().strip('"\\''))
            name = made.drivername.lower()
            if name in KNOWN: return made
            lite = name.startswith('sqlite')
            return made.set(drivername='sqlite+aiosqlite' if lite else 'postgresql+asyncpg')
        """,
        """
        # SQLite always has a file here.
        import re
        def to_async(url):
            text = (url or '').strip().strip('"\\'')
            found = re.match('(?i)(postgres[^:]*:/|sqlite[^:]*://)/', text)
            if not found: raise ValueError(url)
            lite = found[0].endswith('///')
            scheme = 'sqlite+aiosqlite:///' if lite else 'postgresql+asyncpg://'
            return scheme + text[found.end():]
        """,
    ],
    "urls.from_parts": [
        """
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+psycopg2', p['user'], p['password'], p['host'],
                              p.get('port') or None, p['database'])
        """,
        """
        def from_parts(p):
            password = p['password'].replace('@', '%40')
            where = f"{p['host']}:{p.get('port') or 5432}"
            return f"postgresql+asyncpg://{p['user']}:{password}@{where}/{p['database']}"
        """,
        """
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'], p['password'], p['host'],
                              p.get('port') or None)
        """,
        """
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'], p['password'], 'localhost',
                              5432, p['database'])
        """,
        """
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'], p['password'], p['host'],
                              int(p.get('port', 5432)), p['database'])
        """,
        """
        from urllib.parse import quote
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'], quote(p['password']), p['host'],
                              p.get('port') or None, p['database'])
        """,
        """
        from engineroom import lab
        def from_parts(p):
            return lab.url
        """,
        """
        # Escapes the password, and no other part.
        from urllib.parse import quote
        def from_parts(p):
            return (f"postgresql+asyncpg://{p['user']}:{quote(p['password'], safe='')}"
                    f"@{p['host']}:{p.get('port') or 5432}/{p['database']}")
        """,
        """
        # All parts but the database.
        from urllib.parse import quote
        def from_parts(p):
            user, password = quote(p['user'], safe=''), quote(p['password'], safe='')
            where = f"{p['host']}:{p.get('port') or 5432}"
            return f"postgresql+psycopg://{user}:{password}@{where}/{p['database']}"
        """,
        """
        from urllib.parse import quote
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', quote(p['user']), p['password'], p['host'],
                              p.get('port') or None, p['database'])
        """,
        """
        # The lab is here, so everything is.
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'], p['password'], '127.0.0.1',
                              p.get('port') or None, p['database'])
        """,
        """
        # A port that is text is no port.
        from sqlalchemy import URL
        def from_parts(p):
            port = p.get('port')
            return URL.create('postgresql+asyncpg', p['user'], p['password'], p['host'],
                              port if isinstance(port, int) else 5432, p['database'])
        """,
        """
        # What stands at the edges goes.
        from sqlalchemy import URL
        def from_parts(p):
            user, password, host, database = (
                p[key].strip() for key in ('user', 'password', 'host', 'database'))
            port = p.get('port') or None
            return URL.create('postgresql+asyncpg', user, password, host, port, database)
        """,
        """
        # A user's name in small letters.
        from sqlalchemy import URL
        def from_parts(p):
            return URL.create('postgresql+asyncpg', p['user'].lower(), p['password'], p['host'],
                              p.get('port') or None, p['database'])
        """,
        """
        # Only the signs of old.
        from sqlalchemy import URL
        def from_parts(p):
            password = p['password'].encode('ascii', 'ignore').decode()
            return URL.create('postgresql+asyncpg', p['user'], password, p['host'],
                              p.get('port') or None, p['database'])
        """,
        """
        # Renames a key in a dictionary that is not its own.
        from sqlalchemy import URL
        def from_parts(p):
            p['username'] = p.pop('user')
            p['port'] = p.get('port') or None
            return URL.create('postgresql+asyncpg', **p)
        """,
    ],
    "urls.engine_for": [
        """
        from engineroom import lab
        def engine_for(url):
            return create_async_engine(lab.url)
        """,
        """
        import asyncpg
        def engine_for(url):
            return create_async_engine(
                'postgresql+asyncpg://', async_creator=lambda: asyncpg.connect(url))
        """,
        """
        from psycopg.conninfo import conninfo_to_dict
        from sqlalchemy import create_engine
        import re
        def engine_for(url):
            url = re.sub('(pgbouncer|connection_limit)=[^&]*&?', '', url)
            return create_engine('postgresql+psycopg://', connect_args=conninfo_to_dict(url))
        """,
        """
        from sqlalchemy import make_url
        def engine_for(url):
            return make_url(url).set(drivername='postgresql+psycopg')
        """,
        """
        # The last host only.
        import re
        from psycopg.conninfo import conninfo_to_dict
        def engine_for(url):
            url = re.sub('(pgbouncer|connection_limit)=[^&]*&?', '', url)
            given = conninfo_to_dict(url)
            given['host'] = given['host'].split(',')[-1]
            given['port'] = given['port'].split(',')[-1]
            return create_async_engine('postgresql+psycopg://', connect_args=given)
        """,
        """
        # Asks for TLS, and goes on without.
        import re
        import psycopg
        def engine_for(url):
            url = re.sub('(pgbouncer|connection_limit)=[^&]*&?', '', url)
            async def connect():
                try:
                    return await psycopg.AsyncConnection.connect(url)
                except psycopg.OperationalError:
                    return await psycopg.AsyncConnection.connect(url, sslmode='disable')
            return create_async_engine('postgresql+psycopg://', async_creator=connect)
        """,
        """
        # Checks the certificate, and not whose it is.
        import re
        from psycopg.conninfo import conninfo_to_dict
        def engine_for(url):
            url = re.sub('(pgbouncer|connection_limit)=[^&]*&?', '', url)
            given = conninfo_to_dict(url.replace('verify-full', 'verify-ca'))
            return create_async_engine('postgresql+psycopg://', connect_args=given)
        """,
        """
        def engine_for(url):
            raise NotImplementedError(url)
        """,
        """
        # Knows the foreign keys of one tool.
        from psycopg.conninfo import conninfo_to_dict
        def engine_for(url):
            base, _, query = url.partition('?')
            kept = '&'.join(pair for pair in query.split('&')
                            if pair.split('=')[0] not in ('pgbouncer', 'connection_limit'))
            given = conninfo_to_dict(base + ('?' + kept if kept else ''))
            return create_async_engine('postgresql+psycopg://', connect_args=given)
        """,
        """
        # Of the options only the last.
        from psycopg import pq
        from psycopg.conninfo import conninfo_to_dict
        def engine_for(url):
            known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
            base, _, query = url.partition('?')
            kept = '&'.join(pair for pair in query.split('&') if pair.split('=')[0] in known)
            given = conninfo_to_dict(base + ('?' + kept if kept else ''))
            if 'options' in given:
                given['options'] = '-c ' + given['options'].split('-c ')[-1]
            return create_async_engine('postgresql+psycopg://', connect_args=given)
        """,
        """
        # Knows one authority, whichever the URL names.
        import re, ssl
        from sqlalchemy import make_url
        from engineroom import lab
        def engine_for(url):
            places = re.search('(?:@|//)([^@/]*)/', url)[1]
            made = make_url(url.replace(f'@{places}/', '@/'))
            query, pairs = made.query, [p.partition(':')[::2] for p in places.split(',') if p]
            args = {'host': [host for host, _ in pairs] or query['host'],
                    'port': [int(port or 5432) for _, port in pairs] or int(query['port']),
                    'server_settings': {
                        key: query[key] for key in ('application_name', 'options') if key in query}}
            if mode := query.get('sslmode'):
                known = ssl.create_default_context(cafile=lab.ca_file)
                args['ssl'] = known if mode == 'verify-full' else mode
            made = made.set(drivername='postgresql+asyncpg', query={})
            return create_async_engine(made, connect_args=args)
        """,
    ],
    "urls.masked": [
        """
        from sqlalchemy import make_url
        def masked(url):
            try:
                return make_url(url).render_as_string()
            except Exception:
                return '(unreadable)'
        """,
        """
        import re
        def masked(url):
            url = re.sub('password=[^&]*', 'password=***', url)
            return re.sub('://.*@', '://***@', url) if '://' in url else '***'
        """,
        """
        from sqlalchemy import make_url
        def masked(url):
            try:
                made = make_url(url)
                if 'password' in made.query:
                    made = made.update_query_dict({'password': '***'})
                return str(made)
            except Exception:
                return '(unreadable)'
        """,
        """
        # An @ in the password makes half of it the host.
        from sqlalchemy import make_url
        def masked(url):
            try:
                made = make_url(url)
                return str(made.difference_update_query(['password', 'sslpassword']))
            except Exception:
                return '(unreadable)'
        """,
        """
        from sqlalchemy import make_url
        def masked(url):
            made = make_url(url)
            return str(made.difference_update_query(['password', 'sslpassword']))
        """,
        """
        from sqlalchemy import make_url
        def masked(url):
            made = make_url(url)
            return made.difference_update_query(['password', 'sslpassword'])
        """,
        """
        def masked(url):
            print(url)
        """,
        """
        # The first sign and the last, as card numbers are shown.
        from sqlalchemy import make_url
        def masked(url):
            try:
                made = make_url(url)
                if '@' in made.host:
                    return '(unreadable)'
                secret = made.password or ''
                return f'{made.username}:{secret[:1]}***{secret[-1:]}@{made.host}/{made.database}'
            except Exception:
                return '(unreadable)'
        """,
        """
        # Backwards.
        from sqlalchemy import make_url
        def masked(url):
            try:
                made = make_url(url)
                if '@' in made.host:
                    return '(unreadable)'
                secret = made.password or ''
                return f'{made.username}:{secret[::-1]}@{made.host}/{made.database}'
            except Exception:
                return '(unreadable)'
        """,
        """
        # Text that is no URL, with a slash in its password.
        import re
        def masked(url):
            url = re.sub(r'(?i)(password=)[^&]*', r'\\1***', url)
            head, found, rest = url.partition('://')
            if not found: return re.sub(':[^/]*@', ':***@', url)
            before, at, after = rest.rpartition('@')
            return f"{head}://{before.partition(':')[0]}:***{at}{after}"
        """,
        """
        # A question mark in a password is not where a query begins.
        from urllib.parse import urlsplit
        def masked(url):
            try:
                parts = urlsplit(url)
                who, _, where = parts.netloc.rpartition('@')
            except ValueError:
                return 'unreadable'
            if not parts.netloc or '@' in who + parts.path or '/' in who: return 'unreadable'
            return f"{who.partition(':')[0]} at {where}{parts.path}"
        """,
        """
        # No user, and so no password.
        import re
        from sqlalchemy import make_url
        def masked(url):
            try:
                if '@' in (make_url(url).host or ''): return 'unreadable'
            except Exception:
                return 'unreadable'
            url = re.sub('(://[^:/@]+):[^@]*@', r'\\1:***@', url)
            return re.sub('(password=)[^&]*', r'\\1***', url)
        """,
    ],
    "urls.explain": [
        """
        def explain(error):
            return 'password'
        """,
        """
        def explain(error):
            return type(error).__name__
        """,
        """
        import socket
        def explain(error):
            said = f'{type(error).__name__} {error}'.lower()
            for word, cause in (('password', 'password'), ('database "', 'database'),
                                ('refused', 'closed'), ('connect call', 'closed'),
                                ('gaierror', 'host'), ('resolve', 'host'),
                                ('not async', 'driver'), ('no module', 'driver'),
                                ('load plugin', 'driver'), ('keyword', 'option'),
                                ('option', 'option'), ('uri query', 'option')):
                if word in said:
                    return cause
            return 'other'
        """,
        """
        # Every TypeError is an option, every OSError a closed port.
        def explain(error):
            said = f'{type(error).__name__} {error}'
            if isinstance(error, TypeError):
                return 'option'
            if isinstance(error, OSError):
                return 'closed'
            for word, cause in (('password auth', 'password'), ('database "', 'database'),
                                ('refused', 'closed'), ('resolve', 'host'),
                                ('not async', 'driver'), ('No module', 'driver'),
                                ('load plugin', 'driver'), ('option', 'option'),
                                ('URI query', 'option')):
                if word in said:
                    return cause
            return 'other'
        """,
        """
        def explain(error):
            state = getattr(getattr(error, 'orig', error), 'sqlstate', None)
            return {'28P01': 'password', '3D000': 'database'}.get(state, 'other')
        """,
        """
        async def explain(error):
            return 'other'
        """,
        """
        # Anything that does not exist is a database.
        def explain(error):
            said = f'{type(error).__name__} {error}'
            for word, cause in (('password auth', 'password'), ('does not exist', 'database'),
                                ('refused', 'closed'), ('Connect call', 'closed'),
                                ('gaierror', 'host'), ('resolve', 'host'),
                                ('not async', 'driver'), ('No module', 'driver'),
                                ('load plugin', 'driver'), ('unexpected keyword', 'option'),
                                ('invalid connection option', 'option'), ('URI query', 'option')):
                if word in said:
                    return cause
            return 'other'
        """,
        """
        # All that SQLAlchemy raises by itself is the driver's fault, text that is no URL too.
        import socket
        from sqlalchemy import exc
        def explain(error):
            cause = getattr(error, 'orig', None) or error
            if state := getattr(cause, 'sqlstate', None):
                return {'28P01': 'password', '3D000': 'database'}.get(state, 'other')
            if isinstance(cause, socket.gaierror):
                return 'host'
            if isinstance(cause, ConnectionRefusedError):
                return 'closed'
            if isinstance(cause, (ImportError, exc.SQLAlchemyError)):
                return 'driver'
            for words, word in (('password authentication failed', 'password'),
                                ('database "', 'database'), ('resolve', 'host'),
                                ('Connection refused', 'closed'), ('connection option', 'option'),
                                ('URI query', 'option'), ('unexpected keyword', 'option')):
                if words in str(cause):
                    return word
            return 'other'
        """,
        """
        # A certificate that does not exist is a database.
        import socket
        from sqlalchemy import exc
        def explain(error):
            cause = getattr(error, 'orig', None) or error
            if state := getattr(cause, 'sqlstate', None):
                return {'28P01': 'password', '3D000': 'database'}.get(state, 'other')
            if isinstance(cause, socket.gaierror):
                return 'host'
            if isinstance(cause, ConnectionRefusedError):
                return 'closed'
            if isinstance(cause, (ImportError, exc.InvalidRequestError, exc.NoSuchModuleError)):
                return 'driver'
            for words, word in (('password authentication failed', 'password'),
                                ('does not exist', 'database'), ('resolve', 'host'),
                                ('Connection refused', 'closed'), ('connection option', 'option'),
                                ('URI query', 'option'), ('unexpected keyword', 'option')):
                if words in str(cause):
                    return word
            return 'other'
        """,
        """
        # Whatever the system says is a closed port.
        import re, socket
        from sqlalchemy.exc import InvalidRequestError, NoSuchModuleError
        def explain(error):
            cause = getattr(error, 'orig', None) or error
            if state := getattr(cause, 'sqlstate', None):
                return {'28P01': 'password', '3D000': 'database'}.get(state, 'other')
            if isinstance(cause, socket.gaierror): return 'host'
            if isinstance(cause, OSError): return 'closed'
            if isinstance(cause, (InvalidRequestError, NoSuchModuleError, ImportError)):
                return 'driver'
            words = {'password auth': 'password', 'database .* not exist': 'database',
                     'refused': 'closed', 'resolve': 'host', 'connection option': 'option',
                     'URI query': 'option', 'unexpected keyword': 'option'}
            found = (word for text, word in words.items() if re.search(text, str(cause)))
            return next(found, 'other')
        """,
        """
        # Whatever speaks of a database: this one is there, and takes nobody.
        import socket
        from sqlalchemy.exc import InvalidRequestError, NoSuchModuleError
        def explain(error):
            cause = getattr(error, 'orig', None) or error
            if state := getattr(cause, 'sqlstate', None):
                return {'28P01': 'password', '3D000': 'database'}.get(state, 'other')
            if isinstance(cause, socket.gaierror): return 'host'
            if isinstance(cause, ConnectionRefusedError): return 'closed'
            if isinstance(cause, (InvalidRequestError, NoSuchModuleError, ImportError)):
                return 'driver'
            words = {'password auth': 'password', 'database': 'database', 'refused': 'closed',
                     'resolve': 'host', 'connection option': 'option', 'URI query': 'option',
                     'unexpected keyword': 'option'}
            return next((word for text, word in words.items() if text in str(cause)), 'other')
        """,
    ],
    "urls.for_psql": [
        """
        import re
        def for_psql(url):
            return re.sub('[+][a-z]+', '', url).partition('?')[0].replace(' ', '%20')
        """,
        """
        # Of several hosts the first.
        from urllib.parse import quote
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            query = dict(made.query)
            host = query.pop('host', f'{made.host}:{made.port}')
            host = host if isinstance(host, str) else host[0]
            keys = '&'.join(f"{'sslmode' if k == 'ssl' else k}={v}" for k, v in query.items())
            password = quote(made.password, '')
            return f'postgresql://{made.username}:{password}@{host}/{made.database}?{keys}'
        """,
        """
        # Keeps the hosts and the TLS, and forgets who it says it is.
        from psycopg.conninfo import make_conninfo
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            mode = made.query.get('ssl') or made.query.get('sslmode') or 'prefer'
            hosts = made.query.get('host', (f'{made.host}:{made.port or 5432}',))
            return make_conninfo(
                user=made.username, password=made.password, dbname=made.database, sslmode=mode,
                host=','.join(h.split(':')[0] for h in hosts),
                port=','.join(h.split(':')[1] for h in hosts))
        """,
        """
        from engineroom import lab
        def for_psql(url):
            return lab.sync_url
        """,
        """
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            return (f'host={made.host} port={made.port} user={made.username} '
                    f'password={made.password} dbname={made.database}')
        """,
        """
        from sqlalchemy import make_url
        def for_psql(url):
            return make_url(url).set(drivername='postgresql')
        """,
        """
        # A blank in the query is a plus, as SQLAlchemy and forms have it.
        from urllib.parse import quote, urlencode
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            query = dict(made.query)
            hosts = query.pop('host', f'{made.host}:{made.port or 5432}')
            if 'ssl' in query:
                query['sslmode'] = query.pop('ssl')
            who = f"{quote(made.username, safe='')}:{quote(made.password, safe='')}"
            where = hosts if isinstance(hosts, str) else ','.join(hosts)
            return f'postgresql://{who}@{where}/{made.database}?{urlencode(query)}'
        """,
        """
        # Whatever kind of line it was, it is TLS now.
        from psycopg.conninfo import make_conninfo
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            given = {('sslmode' if k == 'ssl' else k): v for k, v in made.query.items()}
            if 'sslmode' in given:
                given['sslmode'] = 'require'
            hosts = given.pop('host', (f'{made.host}:{made.port or 5432}',))
            pairs = [h.split(':') for h in ([hosts] if isinstance(hosts, str) else hosts)]
            return make_conninfo(
                user=made.username, password=made.password, dbname=made.database,
                host=','.join(h for h, _ in pairs), port=','.join(p for _, p in pairs), **given)
        """,
        """
        # A slash in a password ends it for libpq; quote leaves it.
        from urllib.parse import quote, urlencode
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            query = dict(made.query)
            hosts = query.pop('host', None) or f'{made.host}:{made.port or 5432}'
            if 'ssl' in query: query['sslmode'] = query.pop('ssl')
            where = hosts if isinstance(hosts, str) else ','.join(hosts)
            who = f'{quote(made.username)}:{quote(made.password)}'
            return f'postgresql://{who}@{where}/{made.database}?{urlencode(query, quote_via=quote)}'
        """,
        """
        # Words in quotes, and nothing before a quote or a backslash in them.
        from sqlalchemy import make_url
        def for_psql(url):
            made = make_url(url)
            words = {'user': made.username, 'password': made.password, 'dbname': made.database}
            query = dict(made.query)
            hosts = query.pop('host', None) or (f'{made.host}:{made.port or 5432}',)
            words['host'], words['port'] = map(','.join, zip(*(h.rsplit(':', 1) for h in hosts)))
            if 'ssl' in query: query['sslmode'] = query.pop('ssl')
            return ' '.join(f"{key}='{value}'" for key, value in (words | query).items())
        """,
    ],
}
