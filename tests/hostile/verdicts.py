"""Who would rather write the verdict than the answer."""

from hostile import CAPPED, NO_POINTS, case

# The judge's line, and a frame on it: nothing stops anybody from finding it.
_LINE = """
import gc, json, socket, struct
def line():
    (runtime,) = [o for o in gc.get_objects() if type(o).__name__ == 'Runtime']
    found = runtime._connection.dup()
    found.setblocking(True)
    return found
def frame(body):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return struct.pack('!I', len(body)) + body
"""

_NO_LIMIT = "def capped(url, n, wait):\n    return create_async_engine(url)"


def _says(name: str, tries: str, said: str, fair: str = "crashed"):  # type: ignore[no-untyped-def]
    """Say something on the judge's line as soon as the answer's cell runs."""
    return case(name, tries, fair, _LINE, f"{_NO_LIMIT}\nline().sendall({said})")


CASES = [
    _says(
        "reply_passed",
        "replies with a verdict instead of a value",
        "50 * frame({'status': 'passed', 'points': 3, 'value': True, 'kind': 'function'})",
        NO_POINTS,
    ),
    _says(
        "reply_is_done",
        "says that every probe is done",
        "frame({'kind': 'function'}) + 50 * frame({'done': True})",
    ),
    _says(
        "reply_in_advance",
        "replies before it is asked, as a right answer would",
        "frame({'kind': 'function'}) + 3 * (frame({'value': 3, 'kind': 'int'}) * 5)",
        NO_POINTS,
    ),
    _says("reply_of_four_gigabytes", "announces a huge reply", "b'\\xff' * 4"),
    _says("reply_of_two_megabytes", "sends a huge reply", "frame({'value': 'x' * 2_000_000})"),
    _says("reply_too_deep", "nests a reply deeply", "frame(b'[' * 400_000 + b']' * 400_000)"),
    _says("reply_rather_deep", "nests a value", "frame({'value': [[[[[[[[[[[[[[]]]]]]]]]]]]]]})"),
    _says("reply_not_a_number", "replies NaN", 'frame(b\'{"value": NaN, "kind": "float"}\')'),
    _says("reply_infinite", "replies 1e999", 'frame(b\'{"value": 1e999, "kind": "float"}\')'),
    _says("reply_long_number", "replies a number of 900,000 digits", "frame(b'9' * 900_000)"),
    _says(
        "reply_half_a_character",
        "replies a lone surrogate",
        'frame(b\'{"value": "\\\\ud800", "kind": "str"}\')',
    ),
    _says("reply_a_list", "replies what is no object", "frame([1, 2, 3])"),
    _says("reply_no_json", "replies what is no JSON", "frame(b'\\x00\\xff\\xfe')"),
    _says("reply_wrong_kind", "replies fields of wrong types", "frame({'value': 1, 'kind': [5]})"),
    _says(
        "reply_wrong_failure",
        "replies an exception of the wrong shape",
        "frame({'failure': {'type': 7, 'bases': 'all', 'cause': {'cause': 1}}})",
    ),
    _says(
        "reply_wrong_values",
        "replies text where the check asked for numbers",
        "frame({'kind': 'function'}) + 50 * frame({'value': 'many', 'kind': 'int'})",
    ),
    _says(
        "reply_nothing",
        "replies no value where the check asked for several",
        "frame({'kind': 'function'}) + 50 * frame({'value': None, 'kind': 'NoneType'})",
    ),
    _says("reply_half", "sends half a reply", "frame({'kind': 'function'})[:9]", "crashed"),
    _says(
        "reply_twice",
        "sends each reply twice",
        "frame({'kind': 'function'})",
        NO_POINTS,
    ),
    case(
        "half_a_reply_and_silence",
        "begins a reply and never ends it",
        "timed_out",
        _LINE,
        "def capped(url, n, wait):\n    line().sendall(b'\\0\\0\\1\\0{')\n    while True: pass",
    ),
    case(
        "replies_without_end",
        "sends as long as anybody listens",
        NO_POINTS,
        _LINE,
        """
        def capped(url, n, wait):
            while True:
                line().sendall(frame({'value': 1, 'kind': 'int'}) * 1000)
        """,
    ),
    case(
        "hangs_up",
        "closes the judge's line and works on",
        NO_POINTS,
        _LINE,
        """
        import os, time
        def capped(url, n, wait):
            line().shutdown(socket.SHUT_RDWR)
            while True: pass
        """,
    ),
    case(
        "sends_descriptors",
        "sends open files along with its replies",
        NO_POINTS,
        _LINE,
        """
        def capped(url, n, wait):
            with open('/etc/passwd') as file:
                for _ in range(100):
                    socket.send_fds(line(), [frame({'value': 1})], [file.fileno()] * 100)
        """,
    ),
    case(
        "runtime_says_yes",
        "has the runtime answer true to everything",
        NO_POINTS,
        """
        import engineroom.exercises.runtime as runtime
        async def yes(self, request):
            return {'value': True, 'kind': 'function'}
        runtime.Runtime._do = yes
        """,
        then=_NO_LIMIT,
    ),
    case(
        "replay",
        "plays back what the probes of a right answer said, with nothing behind it",
        NO_POINTS,
        """
        import engineroom.exercises.runtime as runtime
        said = [5, 3, 5, 1]
        real = runtime.Runtime._do
        async def replay(self, request):
            if request['op'] == 'steps':
                size, extra = request['args'][1], request['args'][3]
                self.said = iter([size + extra, extra, size, 1])
            if request['op'] in ('steps', 'next'):
                for value in self.said:
                    return {'value': value, 'kind': 'int'}
                return {'done': True}
            return await real(self, request)
        runtime.Runtime._do = replay
        """,
        then=_NO_LIMIT,
    ),
    case(
        "claims_out_of_memory",
        "raises what looks like trouble of the machine's",
        "out_of_memory",
        "def capped(*a):\n    raise MemoryError('the grader has no memory left')",
    ),
    case(
        "markup_for_words",
        "writes a page, a formula and an escape sequence into its message",
        "error",
        """
        def capped(*a):
            raise Exception('=cmd|calc!A0 <script>alert(1)</script> \\x1b[2J \\u202e \\0 {{7*7}}')
        """,
    ),
    case(
        "a_megabyte_of_words",
        "raises an exception with a long message",
        "error",
        "def capped(*a):\n    raise type('E' * 100_000, (Exception,), {})('m' * 1_000_000)",
    ),
    case(
        "prints_a_verdict",
        "prints a line of results",
        "passed",
        'print(\'{"status": "passed", "points": 100}\')' + CAPPED,
    ),
    case(
        "checks_of_its_own",
        "brings checks, and a check that passes",
        "failed",
        """
        import sys, types
        checks = sys.modules['checks'] = types.ModuleType('checks')
        checks.pooling = types.SimpleNamespace(ceiling=types.SimpleNamespace(check=lambda: True))
        """,
        then=_NO_LIMIT,
    ),
    case(
        "rewrites_its_name",
        "patches what a notebook would call",
        "failed",
        """
        import engineroom.exercises.model as model
        model.Exercise.check = lambda self: 'passed'
        model.expect = lambda *a: None
        """,
        then=_NO_LIMIT,
    ),
]
