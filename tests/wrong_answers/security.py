"""Plausible wrong answers for security: each must fail, beside the slips."""

_VAULT = """
        import json
        from sqlalchemy import URL, event
        def read(client, secret_id):
            return json.loads(client.get_secret_value(SecretId=secret_id)['SecretString'])
        def address(s, **more):
            name = s.get('dbname') or s['database']
            return URL.create('postgresql+asyncpg', s['username'], host=s['host'],
                              port=int(s['port']), database=name, **more)
"""
_GRANTS = """
        def desk_grants(role):
            name = '"' + role.replace('"', '""') + '"'
            return [
                f'grant select on ferry, sailing, booking to {name}',
                f'grant insert on booking to {name}',
                f'grant usage on sequence booking_id_seq to {name}',
                f'grant update (seats_left) on sailing to {name}',
                f'alter default privileges grant select on tables to {name}',
            ]
"""

_SCAN = r"""
        import re
        from fnmatch import fnmatch
        URL = r'://[^\s:/@]*:(?!\*+@|\$?\{)[^\s@]+@'
        def kept(folder):
            file = folder / '.gitignore'
            ignored = [i.rstrip('/') for i in (file.read_text().split() if file.exists() else ())]
            both = [(p, p.relative_to(folder)) for p in folder.rglob('*') if p.is_file()]
            return [(p, path) for p, path in both
                    if not any(fnmatch(x, i) for x in path.parts for i in ignored)]
        def lines(file):
            return enumerate(file.read_text(errors='replace').splitlines(), 1)
"""

WRONG = {
    "security.settings": [
        """
        import os
        class Settings:
            database_url = os.environ.get('DATABASE_URL')
        load_settings = Settings
        """,
        """
        import os
        from sqlalchemy import make_url
        class Settings:
            def __init__(self):
                for line in open('.env'):
                    key, _, value = line.strip().partition('=')
                    os.environ.setdefault(key, value)
                self.database_url = make_url(os.environ['DATABASE_URL'])
        def load_settings():
            return Settings()
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore', hide_input_in_errors=True):
            database_url: SecretStr | None = None
        load_settings = Settings
        """,
        """
        import os
        from dataclasses import dataclass
        from dotenv import load_dotenv
        @dataclass
        class Settings:
            database_url: str
            def __str__(self):
                return 'Settings(...)'
        def load_settings():
            load_dotenv('.env')
            return Settings(os.environ['DATABASE_URL'])
        """,
        """
        import os
        from dotenv import load_dotenv
        from sqlalchemy import make_url
        class Settings:
            def __init__(self, url):
                self.database_url = str(make_url(url))
        def load_settings():
            load_dotenv('.env')
            return Settings(os.environ['DATABASE_URL'])
        """,
        """
        from pydantic import PostgresDsn
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore', hide_input_in_errors=True):
            database_url: PostgresDsn
        load_settings = Settings
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore'):
            database_url: SecretStr
        def load_settings():
            try:
                return Settings()
            except ValueError as error:
                raise RuntimeError(f'DATABASE_URL is missing: {error}') from None
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore', hide_input_in_errors=True):
            database_url: SecretStr
        def load_settings():
            try:
                return Settings()
            except ValueError:
                raise SystemExit('bad configuration')
        """,
        """
        import os
        from dotenv import dotenv_values
        from sqlalchemy import make_url
        class Settings:
            def __init__(self):
                file = dotenv_values('.env')
                self.database_url = make_url(file.get('DATABASE_URL') or os.environ['DATABASE_URL'])
        load_settings = lambda: Settings()
        """,
        """
        import os
        from types import SimpleNamespace
        from dotenv import load_dotenv
        from pydantic import SecretStr
        def load_settings():
            load_dotenv()
            return SimpleNamespace(database_url=SecretStr(os.environ['DATABASE_URL']))
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='allow', hide_input_in_errors=True):
            database_url: SecretStr
        load_settings = Settings
        """,
        """
        import os
        from pathlib import Path
        from types import SimpleNamespace
        from pydantic import SecretStr
        def load_settings():
            file = Path('.env')
            lines = file.read_text().splitlines() if file.exists() else []
            found = dict(line.split('=', 1) for line in lines if '=' in line) | os.environ
            return SimpleNamespace(database_url=SecretStr(found['DATABASE_URL']))
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore'):
            database_url: SecretStr
        def load_settings():
            try:
                return Settings()
            except ValueError as error:
                raise RuntimeError('DATABASE_URL is missing') from error
        """,
        """
        from pydantic import SecretStr
        from pydantic_settings import BaseSettings
        class Settings(BaseSettings, env_file='.env', extra='ignore', hide_input_in_errors=True):
            DATABASE_URL: SecretStr
        load_settings = Settings
        """,
        """
        import os
        from dotenv import dotenv_values
        from pydantic import SecretStr
        class Settings:
            @property
            def database_url(self):
                return SecretStr({**dotenv_values('.env'), **os.environ}['DATABASE_URL'])
        load_settings = Settings
        """,
        """
        import os
        from pathlib import Path
        from types import SimpleNamespace
        from pydantic import SecretStr
        def load_settings():
            if 'DATABASE_URL' in os.environ:
                return SimpleNamespace(database_url=SecretStr(os.environ['DATABASE_URL']))
            for line in Path('.env').read_text().splitlines():
                if line.startswith('DATABASE_URL='):
                    url = line.split('=')[1].strip('"')
                    return SimpleNamespace(database_url=SecretStr(url))
            raise RuntimeError('DATABASE_URL is missing')
        """,
    ],
    "security.safe_message": [
        """
        def safe_message(error):
            return repr(error)
        """,
        """
        def safe_message(error):
            return f'{error.orig.sqlstate} {error.orig.diag.constraint_name}'
        """,
        """
        import re
        def safe_message(error):
            said = re.sub(r"'[^']*'", "'...'", str(error.orig).splitlines()[0])
            return f"{getattr(error.orig, 'sqlstate', type(error).__name__)} {said}"
        """,
        """
        def safe_message(error):
            state = getattr(error.orig, 'sqlstate', None) or type(error).__name__
            cause = error.orig.__cause__
            known = getattr(error.orig, 'diag', None) or cause
            detail = getattr(known, 'message_detail', None) or getattr(cause, 'detail', None)
            return f"{state} {getattr(known, 'constraint_name', '')} {detail}"
        """,
        """
        def safe_message(error):
            kinds = {'23505': 'duplicate', '23514': 'out of range', '23502': 'missing'}
            return kinds.get(getattr(error.orig, 'sqlstate', ''), 'bad input')
        """,
        """
        def safe_message(error):
            told = getattr(error.orig, 'diag', None) or error.orig.__cause__
            return getattr(told, 'constraint_name', None) or type(error).__name__
        """,
        """
        import traceback
        def safe_message(error):
            return traceback.format_exception_only(error)[-1]
        """,
        """
        def safe_message(error):
            told = getattr(error.orig, 'diag', None) or error.orig.__cause__
            words = [type(error).__name__, getattr(error.orig, 'sqlstate', None),
                     getattr(told, 'constraint_name', None)]
            return ' '.join(word for word in words if word)
        """,
        """
        def safe_message(error):
            orig = getattr(error, 'orig', None)
            told = getattr(orig, 'diag', None) or getattr(orig, '__cause__', None)
            words = [type(error).__name__, getattr(orig, 'sqlstate', None),
                     getattr(told, 'constraint_name', None)]
            return chr(10).join(word for word in words if word)
        """,
        """
        def safe_message(error):
            orig = getattr(error, 'orig', None)
            if orig is None:
                return 'database error'
            told = getattr(orig, 'diag', None) or orig.__cause__
            state = getattr(orig, 'sqlstate', None) or type(error).__name__
            return f"{state} {getattr(told, 'constraint_name', None)}"
        """,
        r"""
        import re
        def safe_message(error):
            orig = getattr(error, 'orig', None)
            told = getattr(orig, 'diag', None) or getattr(orig, '__cause__', None)
            state = getattr(orig, 'sqlstate', None) or type(error).__name__
            said = str(orig).splitlines()[0] if orig else ''
            said = re.sub(r'\(.*?\)|".*?"|\'.*?\'', '***', said)
            return f"{state} {getattr(told, 'constraint_name', None)} {said}"
        """,
        """
        def safe_message(error):
            orig = getattr(error, 'orig', None)
            told = getattr(orig, 'diag', None) or getattr(orig, '__cause__', None)
            state = getattr(orig, 'sqlstate', None) or type(error).__name__
            name, given = getattr(told, 'constraint_name', ''), getattr(error, 'params', '')
            return f'{state} {name} {given}'
        """,
    ],
    "security.vault_engine": [
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            return create_async_engine(address(s, password=s['password']), pool_pre_ping=True)
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            return create_async_engine(address(s), connect_args={'password': s['password']},
                                       pool_recycle=300)
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            engine = create_async_engine(str(address(s, password=s['password'])))
            event.listen(engine.sync_engine, 'do_connect',
                         lambda d, r, a, p: p.update(password=p['password']))
            return engine
        """,
        _VAULT
        + """
        from urllib.parse import quote
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            engine = create_async_engine(address(s))
            @event.listens_for(engine.sync_engine, 'do_connect')
            def fresh(dialect, record, args, params):
                params['password'] = quote(read(client, secret_id)['password'])
            return engine
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            engine = create_async_engine(address(s, password=s['password']))
            @event.listens_for(engine.sync_engine, 'connect')
            def fresh(connection, record):
                s['password'] = read(client, secret_id)['password']
            return engine
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            asked = []
            engine = create_async_engine(address(s))
            @event.listens_for(engine.sync_engine, 'do_connect')
            def fresh(dialect, record, args, params):
                if len(asked) < 2:
                    asked.append(read(client, secret_id)['password'])
                params['password'] = asked[-1]
            return engine
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            engine = create_async_engine(address(s), pool_size=1)
            event.listen(engine.sync_engine, 'do_connect',
                         lambda d, r, a, p: p.update(password=read(client, secret_id)['password']))
            event.listen(engine.sync_engine, 'begin', lambda c: read(client, secret_id))
            return engine
        """,
        """
        def vault_engine(client, secret_id):
            return create_async_engine('sqlite+aiosqlite://')
        """,
        _VAULT
        + """
        from sqlalchemy import Engine
        def vault_engine(client, secret_id):
            engine = create_async_engine(address(read(client, secret_id)))
            @event.listens_for(Engine, 'do_connect')
            def fresh(dialect, record, args, params):
                params['password'] = read(client, secret_id)['password']
            return engine
        """,
        _VAULT
        + """
        from sqlalchemy import create_engine
        def vault_engine(client, secret_id):
            engine = create_engine(address(read(client, secret_id)).set(
                drivername='postgresql+psycopg'))
            @event.listens_for(engine, 'do_connect')
            def fresh(dialect, record, args, params):
                params['password'] = read(client, secret_id)['password']
            return engine
        """,
        """
        import json
        from urllib.parse import quote
        from sqlalchemy import event
        def vault_engine(client, secret_id):
            def read():
                found = client.get_secret_value(SecretId=secret_id)
                return json.loads(found['SecretString'])
            s = read()
            name = s.get('dbname') or s['database']
            engine = create_async_engine(
                'postgresql+asyncpg://' + quote(s['username']) + '@' + s['host'] + ':' + s['port']
                + '/' + name)
            event.listen(engine.sync_engine, 'do_connect',
                         lambda d, r, a, p: p.update(password=read()['password']))
            return engine
        """,
        _VAULT
        + """
        def vault_engine(client, secret_id):
            s = read(client, secret_id)
            if not isinstance(s['port'], int):
                raise ValueError('a port is a number')
            engine = create_async_engine(address(s))
            event.listen(engine.sync_engine, 'do_connect',
                         lambda d, r, a, p: p.update(password=read(client, secret_id)['password']))
            return engine
        """,
    ],
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
        """
        import ssl
        from engineroom import lab
        context = ssl.create_default_context(cafile=lab.ca_file)
        def verified_engine(url, ca_file):
            return create_async_engine(url, connect_args={'ssl': context})
        """,
        """
        import ssl
        def verified_engine(url, ca_file):
            context = ssl.create_default_context()
            context.load_verify_locations(cafile=ca_file)
            return create_async_engine(url, connect_args={'ssl': context})
        """,
        """
        import ssl
        from functools import cache
        @cache
        def context():
            return ssl.create_default_context(cafile=file)
        def verified_engine(url, ca_file):
            global file
            file = ca_file
            return create_async_engine(url, connect_args={'ssl': context()})
        """,
        """
        from sqlalchemy import create_engine, make_url
        def verified_engine(url, ca_file):
            made = make_url(url).set(drivername='postgresql+psycopg')
            return create_engine(made.update_query_dict(
                {'sslmode': 'verify-full', 'sslrootcert': ca_file}))
        """,
        """
        import ssl
        import certifi
        def verified_engine(url, ca_file):
            context = ssl.create_default_context(cafile=certifi.where())
            context.load_verify_locations(cafile=ca_file)
            return create_async_engine(url, connect_args={'ssl': context})
        """,
    ],
    "security.desk_role": [
        """
        def desk_grants(role):
            return []
        """,
        """
        def desk_grants(role):
            name = '"' + role.replace('"', '""') + '"'
            return [f'alter default privileges grant all on tables to {name}',
                    f'grant select, insert, update on all tables in schema public to {name}']
        """,
        _GRANTS.replace("{name}", "public"),
        _GRANTS.replace("update (seats_left)", "update"),
        _GRANTS.replace("usage on sequence booking_id_seq", "all on sequence booking_id_seq"),
        _GRANTS.replace("grant select on tables", "grant select, delete, truncate on tables"),
        _GRANTS.replace(
            "f'grant select on ferry",
            "f'grant create on schema public to {name}',f'grant select on ferry",
        ),
        _GRANTS.replace("select on ferry, sailing, booking", "select on sailing, booking"),
        _GRANTS.replace("insert on booking", "insert, update on booking"),
        _GRANTS.replace("'\"' + role.replace('\"', '\"\"') + '\"'", "repr(role)"),
        _GRANTS.replace("role.replace('\"', '\"\"')", "role.replace('\"', '')"),
        _GRANTS.replace("sequence booking_id_seq", "all sequences in schema public"),
        _GRANTS.replace("select on tables to {name}", "select on tables to public"),
        _GRANTS.replace("grant select on tables", "grant select, insert on tables"),
        _GRANTS.replace(
            "booking to {name}',\n                f'grant insert",
            "booking to {name} with grant option',\n                f'grant insert",
        ),
        _GRANTS.replace("grant select on ferry", "grant select, references, trigger on ferry"),
        _GRANTS.replace("(seats_left)", "(seats_left, ferry_id)"),
        _GRANTS.replace(
            "            return",
            "            if not role.isidentifier():\n"
            "                raise ValueError(role)\n"
            "            return",
        ),
    ],
    "security.scan": [
        """
        def find_secrets(folder):
            return []
        """,
        """
        def find_secrets(folder):
            return [(path.relative_to(folder), 1) for path in folder.rglob('.env')]
        """,
        r"""
        import re
        def find_secrets(folder):
            return [(p, n) for p in folder.rglob('*') if p.is_file()
                    for n, line in enumerate(p.read_text().splitlines(), 1)
                    if re.search(r'://.*:.*@', line)]
        """,
        r"""
        import re
        from fnmatch import fnmatch
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = [i.rstrip('/') for i in (file.read_text().split() if file.exists() else ())]
            return [(p, n) for p in folder.rglob('*') if p.is_file()
                    and not any(fnmatch(x, i) for x in p.relative_to(folder).parts for i in ignored)
                    for n, line in enumerate(p.read_text(errors='replace').splitlines())
                    if re.search(r'://[^/:@]*:[^*{$<@/]+@', line)]
        """,
        r"""
        import re
        from fnmatch import fnmatch
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = [i.rstrip('/') for i in (file.read_text().split() if file.exists() else ())]
            return [(p, n) for p in folder.rglob('*') if p.is_file()
                    and not any(fnmatch(x, i) for x in p.relative_to(folder).parts for i in ignored)
                    for n, line in enumerate(p.read_text(errors='replace').splitlines(), 1)
                    if re.search(r'postgres\w*://[^/:@]*:[^*{$<@/]+@', line)]
        """,
        r"""
        import re
        from fnmatch import fnmatch
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = [i.rstrip('/') for i in (file.read_text().split() if file.exists() else ())]
            return [(p, n) for p in folder.iterdir() if p.is_file()
                    and not any(fnmatch(p.name, i) for i in ignored)
                    for n, line in enumerate(p.read_text(errors='replace').splitlines(), 1)
                    if re.search(r'://[^/:@]*:[^*{$<@/]+@', line)]
        """,
        r"""
        import re
        def find_secrets(folder):
            return [(p, n) for p in folder.rglob('*') if p.is_file()
                    for n, line in enumerate(p.read_text(errors='replace').splitlines(), 1)
                    if re.search(r'(?i)password|secret|://', line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            return [(file, n) for file, path in kept(folder)
                    for n, line in lines(file) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            return [(path, str(n)) for file, path in kept(folder)
                    for n, line in lines(file) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            found = []
            for file, path in kept(folder):
                try:
                    text = file.read_text(encoding='utf-8')
                except UnicodeDecodeError:
                    continue
                found += [(path, n) for n, line in enumerate(text.splitlines(), 1)
                          if re.search(URL, line)]
            return found
        """,
        _SCAN
        + """
        def find_secrets(folder):
            found = {}
            for file, path in kept(folder):
                for n, line in lines(file):
                    if re.search(URL, line):
                        found.setdefault(path, n)
            return list(found.items())
        """,
        _SCAN
        + r"""
        def find_secrets(folder):
            return [(path, n) for file, path in kept(folder) for n, line in lines(file)
                    if (m := re.search(r'://[^\s:/@]*:([^\s@]+)@', line)) and m[1][0] not in '*{$']
        """,
        _SCAN
        + """
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = file.read_text().split() if file.exists() else []
            return [(p.relative_to(folder), n) for p in folder.rglob('*') if p.is_file()
                    and not any(i.strip('*/') in str(p.relative_to(folder)) for i in ignored)
                    for n, line in lines(p) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = file.read_text().split() if file.exists() else []
            return [(p.relative_to(folder), n) for p in folder.rglob('*') if p.is_file()
                    and not any(p.match(i) or str(p.relative_to(folder)).startswith(i)
                                for i in ignored)
                    for n, line in lines(p) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = file.read_text().split() if file.exists() else []
            def out(path):
                return any(i == str(path) or i[:-1] in path.parts[:-1]
                           or i[0] == '*' and path.name.endswith(i[1:]) for i in ignored)
            return [(path, n) for path in (p.relative_to(folder) for p in folder.rglob('*'))
                    if (folder / path).is_file() and not out(path)
                    for n, line in lines(folder / path) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            file = folder / '.gitignore'
            ignored = file.read_text().split() if file.exists() else []
            def out(path):
                return any(i == path.name or i[:-1] in path.parts[:-1]
                           or i[0] == '*' and str(path).endswith(i[1:]) and len(path.parts) == 1
                           for i in ignored)
            return [(path, n) for path in (p.relative_to(folder) for p in folder.rglob('*'))
                    if (folder / path).is_file() and not out(path)
                    for n, line in lines(folder / path) if re.search(URL, line)]
        """,
        _SCAN
        + """
        def find_secrets(folder):
            return [(path, n) for file, path in kept(folder)
                    if not path.name.startswith('.env.')
                    for n, line in lines(file) if re.search(URL, line)]
        """,
        _SCAN
        + r"""
        def find_secrets(folder):
            return [(path, n) for file, path in kept(folder) for n, line in lines(file)
                    if re.search(r'://[^\s:/@]*:[^\s/@*{$<]+@', line)]
        """,
    ],
}
