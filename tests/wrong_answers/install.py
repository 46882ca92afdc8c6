"""Plausible wrong answers for install: each must fail, beside the slips."""

WRONG = {
    "install.installed": [
        """
        def installed(names):
            return {}
        """,
        """
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = {}
            for name in names:
                try:
                    found[name] = version(name)
                except PackageNotFoundError:
                    pass
            return found
        """,
        """
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = {}
            for name in names:
                try:
                    found[name] = version(name)
                except PackageNotFoundError:
                    found[name] = 'not installed'
            return found
        """,
        """
        from importlib.metadata import packages_distributions, version
        def installed(names):
            by_module = packages_distributions()
            return {n: version(by_module[n][0]) if n in by_module else None for n in names}
        """,
        """
        from importlib.metadata import distributions
        def installed(names):
            return {d.name: d.version for d in distributions() if d.name in names}
        """,
        """
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            try:
                return {name: version(name) for name in names}
            except PackageNotFoundError:
                return {name: None for name in names}
        """,
        """
        # A name that is no distribution's may still be a module's.
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = {}
            for name in names:
                try:
                    found[name] = version(name)
                except PackageNotFoundError:
                    try:
                        found[name] = __import__(name).__version__
                    except ImportError:
                        found[name] = None
            return found
        """,
        """
        from importlib.metadata import PackageNotFoundError, version
        from packaging.version import Version
        def installed(names):
            found = {}
            for name in names:
                try:
                    found[name] = tuple(Version(version(name)).release)
                except PackageNotFoundError:
                    found[name] = None
            return found
        """,
        """
        import functools
        from importlib.metadata import version
        def installed(names):
            return [version(name) for name in names if name == 'greenlet']
        """,
        """
        # Of two folders on the path, the last one wins here, and the first one where it counts.
        from importlib.metadata import distributions
        from packaging.utils import canonicalize_name as key
        def installed(names):
            here = {key(d.metadata['Name']): d.version for d in distributions()}
            return {name: here.get(key(name)) for name in names}
        """,
        """
        # Two of the three signs.
        from importlib.metadata import distributions
        def installed(names):
            here = {}
            for d in distributions():
                here.setdefault(d.name.lower().replace('.', '-'), d.version)
            return {name: here.get(name.lower().replace('.', '-')) for name in names}
        """,
        """
        # After the first that is absent nobody is asked for.
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = dict.fromkeys(names)
            try:
                for name in names:
                    found[name] = version(name)
            except PackageNotFoundError:
                pass
            return found
        """,
        """
        # What was not there once will never be.
        from functools import cache
        from importlib.metadata import PackageNotFoundError, version
        @cache
        def look(name):
            try:
                return version(name)
            except PackageNotFoundError:
                return None
        def installed(names):
            return {name: look(name) for name in names}
        """,
        """
        # Takes the names out of the list it was given.
        from importlib.metadata import PackageNotFoundError, version
        def installed(names):
            found = {}
            while names:
                name = names.pop()
                try:
                    found[name] = version(name)
                except PackageNotFoundError:
                    found[name] = None
            return found
        """,
    ],
    "install.adds": [
        """
        def adds(dist, extra):
            return {'greenlet'}
        """,
        """
        def adds(dist, extra):
            return set()
        """,
        """
        from importlib.metadata import requires
        from packaging.requirements import Requirement
        def adds(dist, extra):
            # dies where a distribution asks for nothing
            return {Requirement(line).name for line in requires(dist)
                    if Requirement(line).marker
                    and Requirement(line).marker.evaluate({'extra': extra})}
        """,
        """
        from importlib.metadata import requires
        from packaging.requirements import Requirement
        def adds(dist, extra):
            return {r.name for r in map(Requirement, requires(dist) or ())
                    if r.marker is not None and r.marker.evaluate({'extra': extra})}
        """,
        """
        from importlib.metadata import requires
        def adds(dist, extra):
            return {line.split()[0].split(';')[0] for line in requires(dist) or ()
                    if line.endswith(f'extra == "{extra}"')}
        """,
        """
        import re
        from importlib.metadata import requires
        def adds(dist, extra):
            return {re.match('[a-zA-Z]+', line)[0] for line in requires(dist) or ()
                    if re.search(f'; extra == .{extra}.', line)}
        """,
        """
        from importlib.metadata import metadata
        def adds(dist, extra):
            return set(metadata(dist).get_all('Provides-Extra') or ())
        """,
        """
        from importlib.metadata import requires
        from packaging.requirements import Requirement
        def adds(dist, extra):
            return ', '.join(r.name for r in map(Requirement, requires(dist) or ())
                             if r.marker and r.marker.evaluate({'extra': extra}))
        """,
        """
        # What comes along, and what comes along with that.
        from importlib.metadata import PackageNotFoundError, requires
        from packaging.requirements import Requirement
        def adds(dist, extra):
            found = set()
            try:
                lines = [Requirement(line) for line in requires(dist) or ()]
            except PackageNotFoundError:
                return found
            for r in lines:
                if r.marker and r.marker.evaluate({'extra': extra}):
                    if not r.marker.evaluate({'extra': ''}):
                        found |= {r.name} | {Requirement(line).name
                                             for line in needed(r.name)}
            return found
        def needed(name):
            try:
                return requires(name) or ()
            except PackageNotFoundError:
                return ()
        """,
    ],
    "install.unmet": [
        """
        def unmet(lines):
            return []
        """,
        """
        def unmet(lines):
            return list(lines)
        """,
        """
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            return [l for l in lines if not any(distributions(name=Requirement(l).name))]
        """,
        """
        # Only looks at the lower bound.
        import re
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        from packaging.version import Version
        def unmet(lines):
            found = []
            for line in lines:
                r = Requirement(line)
                if r.marker and not r.marker.evaluate():
                    continue
                here = [Version(d.version) for d in distributions(name=r.name)]
                low = re.search(r'>=([0-9.]+)', line)
                if not here or low and here[0] < Version(low[1]):
                    found.append(line)
            return found
        """,
        """
        # A made-up rule: the first two numbers decide.
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            found = []
            for line in lines:
                r = Requirement(line)
                if r.marker and not r.marker.evaluate():
                    continue
                here = [d.version.rsplit('.', 1)[0] for d in distributions(name=r.name)]
                if not here or here[0] not in r.specifier:
                    found.append(line)
            return found
        """,
        """
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            found = []
            for line in lines:
                r = Requirement(line)
                if r.marker and not r.marker.evaluate():
                    continue
                for d in distributions(name=r.name):
                    if d.version in r.specifier:
                        break
                    else:
                        found.append(line)
                else:
                    found += [line, line]
            return found
        """,
        """
        from importlib.metadata import PackageNotFoundError, version
        from packaging.requirements import Requirement
        def unmet(lines):
            for line in lines:
                r = Requirement(line)
                if r.marker and not r.marker.evaluate():
                    continue
                try:
                    if version(r.name) not in r.specifier:
                        return [line]
                except PackageNotFoundError:
                    return [line]
            return []
        """,
        """
        # A marker, so it must be somebody else's.
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            asked = [(line, Requirement(line)) for line in lines]
            return [line for line, r in asked if r.marker is None
                    and not any(d.version in r.specifier for d in distributions(name=r.name))]
        """,
        """
        # Reads the markers by eye: one of two.
        import sys
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            asked = [(line, Requirement(line)) for line in lines
                     if 'sys_platform' not in line or sys.platform in line]
            return [line for line, r in asked
                    if not any(d.version in r.specifier for d in distributions(name=r.name))]
        """,
        """
        # Takes a line apart by hand, and what stands in brackets for a part of the name.
        import re
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            found = []
            for line in lines:
                r, name = Requirement(line), re.split('[<>=!~;]', line)[0].strip()
                if r.marker and not r.marker.evaluate():
                    continue
                if not any(d.version in r.specifier for d in distributions(name=name)):
                    found.append(line)
            return found
        """,
        """
        # Names, where lines were asked for.
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            asked = [r for r in map(Requirement, lines) if not r.marker or r.marker.evaluate()]
            return [r.name for r in asked
                    if not any(d.version in r.specifier for d in distributions(name=r.name))]
        """,
        """
        # One line for each package, the last one.
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            asked = {Requirement(line).name: line for line in lines}
            return [line for line in asked.values()
                    if (r := Requirement(line)) and (not r.marker or r.marker.evaluate())
                    and not any(d.version in r.specifier for d in distributions(name=r.name))]
        """,
        """
        # Takes out of the list it was given what is met.
        from importlib.metadata import distributions
        from packaging.requirements import Requirement
        def unmet(lines):
            for line in list(lines):
                r = Requirement(line)
                here = any(d.version in r.specifier for d in distributions(name=r.name))
                if here or r.marker and not r.marker.evaluate():
                    lines.remove(line)
            return lines
        """,
    ],
    "install.missing_for": [
        """
        def missing_for(url):
            return []
        """,
        """
        def missing_for(url):
            return ['asyncpg', 'sqlalchemy[asyncio]']
        """,
        """
        # Always names both, here or not.
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [driver, 'greenlet']
        """,
        """
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): return []
            return [name for name in (driver, 'greenlet') if find_spec(name) is None]
        """,
        """
        # Names what is here.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [name for name in (driver, 'greenlet') if find_spec(name)]
        """,
        """
        # Without the extra there is no greenlet in it.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            lacks = [] if find_spec(driver) else [driver]
            return lacks + ([] if find_spec('greenlet') else ['sqlalchemy'])
        """,
        """
        # Names of modules and of other people's packages.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        PIP = {'psycopg': 'psycopg3', 'asyncpg': 'asyncpg', 'aiosqlite': 'aiosqlite'}
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in PIP: raise ValueError(driver)
            lacks = [] if find_spec(driver) else [PIP[driver]]
            return lacks + ([] if find_spec('greenlet') else ['greenlet'])
        """,
        """
        # psycopg-binary without psycopg is a library that nobody calls.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        PIP = {'psycopg': 'psycopg-binary', 'asyncpg': 'asyncpg', 'aiosqlite': 'aiosqlite'}
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in PIP: raise ValueError(driver)
            lacks = [] if find_spec(driver) else [PIP[driver]]
            return lacks + ([] if find_spec('greenlet') else ['greenlet'])
        """,
        """
        # Everything that is absent, whatever the URL is.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [n for n in ('asyncpg', 'psycopg', 'aiosqlite', 'greenlet') if not find_spec(n)]
        """,
        """
        # Names the first thing only.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [n for n in (driver, 'greenlet') if not find_spec(n)][:1]
        """,
        """
        # A bare sqlite:// is no async URL, whatever comes to mind first.
        from importlib.util import find_spec
        def missing_for(url):
            scheme = url.partition('://')[0]
            driver = {'postgresql': 'psycopg', 'sqlite': 'aiosqlite'}.get(
                scheme, scheme.partition('+')[2])
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [n for n in (driver, 'greenlet') if find_spec(n) is None]
        """,
        """
        # Whatever is neither blocking nor here can be installed, it thinks: aiopg, too.
        from importlib.util import find_spec
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver in ('psycopg2', 'pysqlite'): raise ValueError(driver)
            return [n for n in (driver, 'greenlet') if find_spec(n) is None]
        """,
        """
        # Imported is another thing than installed.
        import sys
        from sqlalchemy import make_url
        def missing_for(url):
            driver = make_url(url).get_driver_name()
            if driver not in ('asyncpg', 'psycopg', 'aiosqlite'): raise ValueError(driver)
            return [n for n in (driver, 'greenlet') if n not in sys.modules]
        """,
        """
        # The word may stand anywhere in a URL.
        from importlib.util import find_spec
        def missing_for(url):
            if 'psycopg2' in url or 'aiopg' in url or url.startswith('sqlite:'):
                raise ValueError(url)
            for driver in ('asyncpg', 'aiosqlite', 'psycopg'):
                if driver in url: break
            return [n for n in (driver, 'greenlet') if find_spec(n) is None]
        """,
        """
        def missing_for(url):
            try:
                create_async_engine(url)
            except Exception as error:
                raise ValueError(url) from error
            return []
        """,
    ],
    "install.whose": [
        """
        def whose(prefix):
            return {}
        """,
        """
        from importlib.metadata import distributions
        def whose(prefix):
            return {d.name: 'pip' for d in distributions()}
        """,
        """
        from pathlib import Path
        def whose(prefix):
            return {info.name.split('-')[0]: 'conda'
                    for info in Path(prefix).rglob('*.dist-info')}
        """,
        """
        # Whatever conda does not list is pip's: uv, too.
        from pathlib import Path
        def whose(prefix):
            records = ''.join(f.read_text() for f in Path(prefix).glob('conda-meta/*.json'))
            return {info.name.split('-')[0]: 'conda' if f'/{info.name}/' in records else 'pip'
                    for info in Path(prefix).rglob('*.dist-info')}
        """,
        """
        # By name and version: conda's own names may be others.
        import json
        from importlib.metadata import Distribution
        from pathlib import Path
        def whose(prefix):
            known = set()
            for record in Path(prefix).glob('conda-meta/*.json'):
                told = json.loads(record.read_text())
                known.add((told['name'].lower(), told['version']))
            found = {}
            for info in Path(prefix).rglob('*.dist-info'):
                d = Distribution.at(info)
                mine = (d.name.lower(), d.version) in known
                found[d.name] = 'conda' if mine else d.read_text('INSTALLER').strip()
            found.update({n: 'pip' for n, w in found.items() if w == 'conda' and n == ''})
            return {n: ('conda' if w == 'conda' else 'pip') for n, w in found.items()}
        """,
        """
        # The beginning of a file's name: an older version's files begin alike.
        from pathlib import Path
        def whose(prefix):
            records = ''.join(f.read_text() for f in Path(prefix).glob('conda-meta/*.json'))
            found = {}
            for info in Path(prefix).rglob('*.dist-info'):
                name = info.name.split('-')[0]
                mine = f'/{name}-' in records
                found[name] = 'conda' if mine else (info / 'INSTALLER').read_text().strip()
            return found
        """,
        """
        # Conda's packages as conda calls them, and libpq among them.
        import json
        from pathlib import Path
        def whose(prefix):
            found = {json.loads(f.read_text())['name']: 'conda'
                     for f in Path(prefix).glob('conda-meta/*.json')}
            for info in Path(prefix).rglob('*.dist-info'):
                who = (info / 'INSTALLER').read_text().strip()
                found[info.name.split('-')[0]] = who
            return found
        """,
        """
        # By name and version, and the right words: but conda may call it something else.
        import json
        from importlib.metadata import Distribution
        from pathlib import Path
        def whose(prefix):
            told = [json.loads(f.read_text()) for f in Path(prefix).glob('conda-meta/*.json')]
            known = {(record['name'].lower(), record['version']) for record in told}
            found = {}
            for info in Path(prefix).rglob('*.dist-info'):
                d = Distribution.at(info)
                mine = (d.name.lower(), d.version) in known
                found[d.name] = 'conda' if mine else d.read_text('INSTALLER').strip()
            return found
        """,
        """
        # One of its files was conda's once: the module kept its name when pip wrote over it.
        import json
        from importlib.metadata import Distribution
        from pathlib import Path
        def whose(prefix):
            files = {file for f in Path(prefix).glob('conda-meta/*.json')
                     for file in json.loads(f.read_text())['files']}
            found = {}
            for info in Path(prefix).rglob('*.dist-info'):
                d, site = Distribution.at(info), info.parent.relative_to(prefix).as_posix()
                mine = any(f'{site}/{file}' in files for file in d.files)
                found[d.name] = 'conda' if mine else d.read_text('INSTALLER').strip()
            return found
        """,
        """
        # Looks where this Python would, and not in that environment.
        import json, sys
        from importlib.metadata import Distribution
        from pathlib import Path
        def whose(prefix):
            site = 'lib/python{}.{}/site-packages'.format(*sys.version_info)
            records = ''.join(f.read_text() for f in Path(prefix).glob('conda-meta/*.json'))
            found = {}
            for info in Path(prefix, site).glob('*.dist-info'):
                mine = f'{site}/{info.name}/METADATA' in records
                who = (info / 'INSTALLER').read_text().strip()
                found[Distribution.at(info).name] = 'conda' if mine else who
            return found
        """,
    ],
}
