"""Who changes Python, the libraries or the probes under the check."""

from hostile import CAPPED, NO_POINTS, case

_NO_LIMIT = "\ndef capped(url, n, wait):\n    return create_async_engine(url)\n"

CASES = [
    case(
        "patches_builtins",
        "makes comparisons, lengths and types lie",
        NO_POINTS,
        """
        import builtins
        builtins.len = lambda x: 3
        builtins.sum = lambda x: 3
        builtins.isinstance = lambda *a: True
        builtins.any = builtins.all = lambda x: True
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_build_class",
        "makes every class another",
        NO_POINTS,
        "import builtins\nbuiltins.__build_class__ = lambda f, name, *a, **k: dict" + _NO_LIMIT,
    ),
    case(
        "patches_the_crowd",
        "has the probe's own tools say what the check wants to hear",
        "failed|timed_out",
        """
        import engineroom.exercises.tools as tools
        class Crowd:
            def __init__(self, engine, size, sql=''): self.size = size
            begun = property(lambda self: self.size)
            refused = property(lambda self: 3)
            async def served(self): return self.size - 3 if self.size > 3 else self.size
            async def come(self): pass
        tools.Crowd = Crowd
        """,
        then=_NO_LIMIT,
    ),
    case(
        "poisons_modules",
        "puts other modules in the place of those that a probe imports",
        NO_POINTS,
        """
        import sys, types
        for name in ('engineroom.exercises.tools', 'sqlalchemy', 'asyncpg', 'json'):
            sys.modules[name] = types.ModuleType(name)
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_sqlalchemy",
        "counts no connection and waits for none",
        NO_POINTS,
        """
        import sqlalchemy.pool as pool
        pool.QueuePool.checkedout = lambda self: 3
        pool.QueuePool.size = lambda self: 3
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_asyncpg",
        "has a driver that connects to nothing and answers everything",
        NO_POINTS,
        """
        import asyncpg
        class Nobody:
            def __getattr__(self, name):
                async def anything(*a, **k): return 1
                return anything
        async def connect(*a, **k): return Nobody()
        asyncpg.connect = connect
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_asyncio",
        "makes every wait end at once",
        NO_POINTS,
        """
        import asyncio
        async def at_once(*a, **k): return None
        asyncio.wait_for = asyncio.sleep = asyncio.gather = at_once
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_json",
        "has everything that is sent say yes",
        NO_POINTS,
        'import json\njson.dumps = lambda *a, **k: \'{"value": 3, "kind": "function"}\''
        + _NO_LIMIT,
    ),
    case(
        "patches_sockets",
        "has every socket swallow what is said",
        NO_POINTS,
        """
        import asyncio.selector_events as events
        async def swallow(self, sock, data): return None
        events.BaseSelectorEventLoop.sock_sendall = swallow
        """,
        then=_NO_LIMIT,
    ),
    case(
        "patches_time",
        "stops the clock",
        NO_POINTS,
        "import time\ntime.time = time.monotonic = time.perf_counter = lambda: 0.0" + _NO_LIMIT,
    ),
    case(
        "edits_frames",
        "looks up the stack and changes what the probe found",
        "failed",
        """
        import sys
        def capped(url, n, wait):
            frame = sys._getframe()
            while frame is not None:
                for name in ('at_most', 'extra', 'wait'):
                    if name in frame.f_locals:
                        frame.f_locals[name] = 0
                frame = frame.f_back
            return create_async_engine(url)
        """,
    ),
    case(
        "traces",
        "follows every line, and raises now and then",
        NO_POINTS,
        """
        import sys
        def trace(frame, event, argument):
            if frame.f_code.co_name == 'served': raise StopIteration(5)
            return trace
        sys.settrace(trace)
        """,
        then=_NO_LIMIT,
    ),
    case(
        "edits_every_object",
        "walks through the collector's objects and empties the lists",
        NO_POINTS,
        """
        import gc
        def capped(url, n, wait):
            engine = create_async_engine(url)
            for found in gc.get_objects():
                if type(found) is list and len(found) < 50: found.clear()
            return engine
        """,
    ),
    case(
        "writes_into_memory",
        "makes the number 3 another",
        NO_POINTS,
        """
        import ctypes
        ctypes.memset(id(3) + 24, 7, 1)
        """,
        then=_NO_LIMIT,
    ),
    case(
        "reads_nowhere",
        "follows a null pointer",
        "crashed",
        "import ctypes\ndef capped(*a):\n    ctypes.string_at(0)",
    ),
    case(
        "equal_to_everything",
        "returns an object that is all things",
        NO_POINTS,
        """
        class Yes:
            def __eq__(self, other): return True
            def __lt__(self, other): return True
            __gt__ = __le__ = __ge__ = __lt__
            __hash__ = lambda self: 3
            __class__ = property(lambda self: int)
            def __call__(self, *a, **k): return self
            def __getattr__(self, name): return self
            def __await__(self): return iter(())
            def __iter__(self): return iter(())
            def __bool__(self): return True
            async def __aenter__(self): return self
            async def __aexit__(self, *a): return False
        capped = Yes()
        """,
    ),
    case(
        "iterates_for_ever",
        "returns an object that never ends, whatever is asked",
        NO_POINTS,
        """
        class Endless:
            def __iter__(self):
                while True: yield 1
            def __getattr__(self, name): return self
            def __call__(self, *a, **k): return self
        def capped(*a):
            return Endless()
        """,
    ),
    case(
        "a_number_that_is_none",
        "is of classes that JSON cannot have",
        NO_POINTS,
        """
        class Text(str):
            def __len__(self): return 0
            def upper(self): return ''
        class Number(int):
            def __eq__(self, other): return True
        def capped(url, n, wait):
            engine = create_async_engine(Text(url), pool_size=Number(n))
            return engine
        """,
    ),
    case(
        "changes_the_environment",
        "sets what Python and Postgres read from the environment",
        "passed",
        """
        import os
        os.environ.update(PYTHONPATH='/tmp', PYTHONHOME='/tmp', PGHOST='/tmp', PGUSER='nobody',
                          PYTHONHASHSEED='0', LD_PRELOAD='/tmp/x.so', PATH='', HOME='/nowhere')
        """,
        then=CAPPED,
    ),
    case(
        "plants_modules",
        "writes modules that a later import would find first",
        "passed",
        """
        import os, sys
        for folder in [*sys.path, '/tmp', '/dev', '/dev/shm', '.']:
            for name in ('sitecustomize', 'asyncpg', 'engineroom', 'checks'):
                try:
                    with open(f'{folder}/{name}.py', 'w') as file: file.write('raise SystemExit')
                except OSError: pass
        """,
        then=CAPPED,
    ),
]
