"""Honest people, on a bad day."""

from hostile import CAPPED, case

CASES = [
    case(
        "missing_import",
        "uses a name that no cell imports",
        "error",
        "def capped(url, n, wait):\n    return asyncio.Semaphore(n)",
    ),
    case(
        "syntax_error_in_the_answer",
        "the cell of one answer cannot be compiled",
        "error",
        "def capped(url, n, wait:\n    return None",
    ),
    case(
        "syntax_error_elsewhere",
        "a cell that no answer needs cannot be compiled",
        "passed",
        "print('almost'",
        CAPPED,
    ),
    case(
        "one_argument_twice",
        "parses, and does not compile",
        "error",
        "def capped(url, url, wait):\n    return create_async_engine(url)",
    ),
    case(
        "nonlocal_at_the_top",
        "a demonstration parses, and does not compile",
        "passed",
        "nonlocal answer",
        CAPPED,
    ),
    case(
        "another_name",
        "the answer has another name than was asked for",
        "not_attempted",
        CAPPED.replace("capped", "my_capped"),
    ),
    case(
        "demonstration_with_network",
        "a cell that is no answer downloads something",
        "passed",
        "import urllib.request\nurllib.request.urlopen('https://example.org').read()",
        CAPPED,
    ),
    case(
        "network_in_the_answer",
        "the answer itself wants the network, where there is none",
        "error",
        """
        import socket
        def capped(url, n, wait):
            socket.create_connection(('203.0.113.1', 80))
        """,
    ),
    case(
        "engine_left_open",
        "never disposes of anything",
        "passed",
        "engines = []\n" + CAPPED.replace("return", "engines.append(0)\n    return"),
    ),
    case("recursion", "never stops", "error", "def capped(*a):\n    return capped(*a)"),
    case("endless_loop", "never ends", "timed_out", "def capped(*a):\n    while True: pass"),
    case(
        "sleep",
        "waits for a thousand seconds",
        "timed_out",
        "import time\ndef capped(*a):\n    time.sleep(1000)",
    ),
    case(
        "sleeping_coroutine",
        "waits for ever, politely",
        "passed",
        CAPPED,
        "import asyncio\nasync def warm(engine, n):\n    await asyncio.Event().wait()",
        warm="timed_out",
    ),
    case(
        "deadlock",
        "takes the same lock twice",
        "timed_out",
        """
        import threading
        lock = threading.Lock()
        def capped(*a):
            with lock, lock:
                pass
        """,
    ),
    case("sys_exit", "leaves", "error", "import sys\ndef capped(*a):\n    sys.exit(0)"),
    case("os_exit", "leaves at once", "crashed", "import os\ndef capped(*a):\n    os._exit(0)"),
    case(
        "exit_at_exit",
        "leaves when it leaves",
        "passed",
        "import atexit, os\natexit.register(os._exit, 3)" + CAPPED,
    ),
    case("asks_a_person", "input()", "error", "def capped(*a):\n    return input('Which? ')"),
    case(
        "asyncio_run_inside",
        "starts a loop in a loop",
        "error",
        """
        import asyncio
        async def make(url):
            return create_async_engine(url)
        def capped(url, n, wait):
            return asyncio.run(make(url))
        """,
    ),
    case(
        "closes_the_loop",
        "closes the loop that it runs on",
        "error",
        """
        import asyncio
        def capped(url, n, wait):
            asyncio.get_running_loop().close()
        """,
    ),
    case(
        "stops_the_loop",
        "stops the loop that it runs on",
        "crashed|passed|error",
        """
        import asyncio
        def capped(url, n, wait):
            asyncio.get_running_loop().stop()
        """,
    ),
    case(
        "prints_50_megabytes",
        "prints more than anybody reads",
        "passed",
        "print('x' * 50_000_000)" + CAPPED,
    ),
    case(
        "binary_output",
        "writes bytes that are no text",
        "passed",
        "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 1000)" + CAPPED,
    ),
    case(
        "magics_and_shell",
        "has what only IPython understands",
        "passed",
        "%load_ext autoreload\n!pip install sqlalchemy\nfiles = !ls\n" + CAPPED,
        "%%bash\nrm -rf /",
    ),
    case(
        "memory_hog",
        "collects until there is no more",
        "out_of_memory",
        """
        def capped(*a):
            kept = []
            while True:
                kept.append(bytearray(b'x' * 10_000_000))
        """,
    ),
    case(
        "one_large_list",
        "asks for eight gigabytes at once",
        "out_of_memory",
        "def capped(*a):\n    return bytearray(8 * 2**30)",
    ),
    case(
        "returns_nothing",
        "forgets to return",
        "error",
        "def capped(*a):\n    engine = create_async_engine(a[0])",
    ),
    case(
        "error_without_words",
        "raises what cannot be put into words",
        "error",
        """
        class Wordless(Exception):
            def __str__(self): raise self
            __repr__ = __str__
        def capped(*a):
            raise Wordless
        """,
    ),
    case(
        "error_that_never_ends",
        "raises what cannot be put into words in time",
        "timed_out",
        """
        class Endless(Exception):
            def __str__(self):
                while True: pass
        def capped(*a):
            raise Endless
        """,
    ),
    case(
        "defined_twice",
        "the last definition counts, and is wrong",
        "failed",
        CAPPED,
        "def capped(url, n, wait):\n    return create_async_engine(url)",
    ),
    case(
        "awaits_at_the_top",
        "a cell that an answer needs awaits something",
        "passed",
        "import asyncio\nnothing = await asyncio.sleep(0)",
        CAPPED.replace("max_overflow=0", "max_overflow=nothing or 0"),
    ),
    case(
        "missing_environment",
        "expects a variable of the learner's own machine",
        "error",
        "import os\ndef capped(*a):\n    return create_async_engine(os.environ['DATABASE_URL'])",
    ),
    case(
        "reads_a_file_of_its_own",
        "writes a file and reads it again",
        "passed",
        "open('settings.txt', 'w').write('0')\nover = int(open('settings.txt').read())",
        CAPPED.replace("max_overflow=0", "max_overflow=over"),
    ),
    case(
        "lost_folder",
        "removes the folder that it stands in",
        "passed",
        "import os\nos.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')" + CAPPED,
    ),
    case(
        "ignores_signals",
        "does not want to be ended",
        "timed_out",
        """
        import signal
        for number in range(1, 65):
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        def capped(*a):
            while True: pass
        """,
    ),
    case(
        "no_collector",
        "switches the collector off, and makes circles",
        "passed",
        "import gc\ngc.disable()\nfor _ in range(10_000):\n    a = []; a.append(a)" + CAPPED,
    ),
    case(
        "threads_left_behind",
        "starts threads that never end",
        "passed",
        """
        import threading, time
        def begin():
            for _ in range(20):
                threading.Thread(target=time.sleep, args=(1000,)).start()
        """,
        CAPPED + "\nbegin()",
    ),
    case(
        "processes_left_behind",
        "starts programs that never end",
        "passed",
        """
        import subprocess
        def begin():
            for _ in range(5):
                subprocess.Popen(['sleep', '1000'])
        """,
        CAPPED + "\nbegin()",
    ),
    case(
        "task_left_behind",
        "starts a task that never ends",
        "passed",
        """
        import asyncio
        def capped(url, at_most, wait):
            capped.task = asyncio.ensure_future(asyncio.sleep(1000))
            return create_async_engine(
                url, pool_size=at_most, max_overflow=0, pool_timeout=wait)
        """,
    ),
    case(
        "too_many_files",
        "opens files and closes none",
        "error",
        """
        def capped(*a):
            return [open('/dev/null') for _ in range(100_000)]
        """,
    ),
    case(
        "many_blank_lines",
        "a cell of ninety thousand blank lines",
        "passed",
        "\n" * 90_000 + CAPPED,
        "\n" * 90_000,
    ),
    case(
        "brackets_without_end",
        "a cell that no parser likes",
        "passed",
        CAPPED,
        "(" * 100_000,
        "x = " + "-" * 100_000 + "1",
        "not " * 50_000 + "x",
    ),
    case(
        "deep_expression_in_the_answer",
        "an answer that no parser likes",
        "error|out_of_memory",
        CAPPED + "\nx = " + "-" * 100_000 + "1",
    ),
]
