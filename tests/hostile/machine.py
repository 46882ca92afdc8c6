"""Who attacks the machine: processes, files, sockets, the kernel, and what belongs to others.

Most then answer rightly. Where `passed` is fair, nothing of what they tried went through: they
raise what did, or what they read.
"""

from textwrap import dedent

from hostile import CAPPED, NO_POINTS, Case, case

_TRY = """
import os, sys, glob, socket, subprocess, time, ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
class WentThrough(Exception): pass
def refused(**attempts):
    for name, attempt in attempts.items():
        try: result = attempt()
        except (OSError, subprocess.SubprocessError, ValueError): continue
        if result != -1: raise WentThrough(f'{name}: {result!r:.300}')
def call(*arguments):
    return libc.syscall(*map(ctypes.c_long, arguments))
def by_machine(x86, arm):
    return x86 if os.uname().machine == 'x86_64' else arm
def in_child(work):
    if os.fork() == 0:
        try: work()
        finally: os._exit(0)
"""


def _then(name: str, tries: str, attack: str, answer: str = CAPPED, fair: str = "passed") -> Case:
    """An attack when the cell is run, then the answer."""
    return case(name, tries, fair, _TRY + dedent(attack) + answer)


def _read(name: str, tries: str, *patterns: str) -> Case:
    """Read whatever is there, and say it loudly."""
    return _then(
        name,
        tries,
        f"""
        for pattern in {patterns!r}:
            for path in glob.glob(pattern, recursive=True, include_hidden=True):
                if os.path.isfile(path):
                    refused(read=lambda: (path, open(path, errors='replace').read()[:200]))
        """,
    )


def _while(name: str, tries: str, attack: str, fair: str) -> Case:
    """An attack in the answer itself, while its check is under way."""
    body = _TRY + "\ndef capped(url, n, wait):" + dedent(attack).replace("\n", "\n    ")
    return case(name, tries, fair, body)


CASES = [
    # -- processes and limits --------------------------------------------------------------
    _then(
        "raises_limits",
        "gives itself more of everything",
        """
        import resource
        for name in ('NPROC', 'NOFILE', 'DATA', 'FSIZE', 'CORE', 'MEMLOCK', 'MSGQUEUE'):
            what = getattr(resource, 'RLIMIT_' + name)
            most = resource.getrlimit(what)[1]
            if most == -1: raise WentThrough(f'{name} has no limit')
            refused(raised=lambda: resource.setrlimit(what, (most + 1, most + 1)))
        """,
    ),
    _while("fork_bomb", "forks as long as it can", "\nwhile True: os.fork()", NO_POINTS),
    _while(
        "fork_bomb_with_patience",
        "forks for ever, whoever refuses",
        """
        while True:
            try: os.fork()
            except OSError: pass
        """,
        "timed_out|out_of_memory",
    ),
    _while(
        "answers_twice",
        "forks, and both go on",
        "\nos.fork()\nreturn create_async_engine(url)",
        NO_POINTS,
    ),
    _then(
        "daemons",
        "leaves daemons behind, of the kind that no session and no signal ends",
        """
        import signal
        def daemon():
            for number in range(1, 32):
                try: signal.signal(number, signal.SIG_IGN)
                except OSError: pass
            try: os.setsid()
            except OSError: pass
            if os.fork(): os._exit(0)
            os.closerange(0, 256)
            time.sleep(1000)
        for _ in range(10): in_child(daemon)
        """,
    ),
    _then(
        "daemon_programs",
        "leaves other programs behind, in sessions of their own",
        """
        for _ in range(5):
            try: subprocess.Popen(['sleep', '1000'], start_new_session=True)
            except (OSError, subprocess.SubprocessError): pass
            subprocess.Popen(['sh', '-c', 'trap "" 1 2 15; (sleep 1000 &) ; sleep 1000'])
        """,
    ),
    _then(
        "a_hundred_processes",
        "starts a hundred processes at a time",
        """
        try:
            for _ in range(100): in_child(lambda: time.sleep(1000))
        except OSError: pass
        else: raise WentThrough('a hundred processes')
        os.kill(-1, 9)
        try:
            while os.wait(): pass
        except ChildProcessError: pass
        """,
    ),
    _then(
        "zombies",
        "has children and looks after none",
        """
        for _ in range(30): in_child(lambda: None)
        """,
    ),
    _then(
        "kills_everybody",
        "kills all that it may kill, its own first process and parent too",
        """
        import signal
        for number in (signal.SIGKILL, signal.SIGSTOP):
            for pid in (-1, 0, os.getppid(), 1, *range(2, 3000)):
                try: os.kill(pid, number)
                except OSError: pass
        """,
    ),
    _then(
        "looks_at_processes",
        "finds the processes of others",
        """
        pids = [name for name in os.listdir('/proc') if name.isdigit()]
        if pids != [str(os.getpid())]: raise WentThrough(pids)
        """,
    ),
    _then(
        "traces_others",
        "takes hold of every process",
        """
        class Vector(ctypes.Structure):
            _fields_ = [('at', ctypes.c_void_p), ('size', ctypes.c_size_t)]
        room = ctypes.create_string_buffer(8)
        mine = Vector(ctypes.addressof(room), 8)
        for pid in range(0, 300):
            refused(
                attach=lambda: libc.ptrace(16, pid, 0, 0),
                seize=lambda: libc.ptrace(0x4206, pid, 0, 0),
                read=lambda: libc.process_vm_readv(
                    pid, ctypes.byref(mine), 1, ctypes.byref(mine), 1, 0),
                write=lambda: libc.process_vm_writev(
                    pid, ctypes.byref(mine), 1, ctypes.byref(mine), 1, 0),
                take_file=lambda: call(438, pid, 0, 0),
                compare=lambda: call(by_machine(312, 272), 1, pid, 0, 0, 0),
            )
        refused(be_traced=lambda: libc.ptrace(0, 0, 0, 0))
        """,
    ),
    _then(
        "pushes_in_front",
        "wants more of the processors than others get",
        """
        class Least(ctypes.Structure):
            _fields_ = [('priority', ctypes.c_int)]
        refused(
            nice=lambda: os.nice(-1),
            real_time=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
            disk=lambda: call(by_machine(251, 30), 1, 0, 1 << 13),
        )
        """,
    ),
    _then(
        "busy_children",
        "has all the machine's time used up by children while it answers",
        """
        def busy():
            while True: pass
        for _ in range(50): in_child(busy)
        """,
        fair="passed|timed_out",
    ),
    _then(
        "busy_threads",
        "starts as many threads as it gets",
        """
        import threading
        for _ in range(1000):
            try: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
            except RuntimeError: break
        else: raise WentThrough('a thousand threads')
        """,
        fair=NO_POINTS,  # there is no thread left in which a name is looked up
    ),
    _while(
        "memory_of_children",
        "has each child take what one process may take",
        """
        def fill():
            kept = bytearray(b'x') * 300_000_000
            time.sleep(1000)
        for _ in range(6): in_child(fill)
        time.sleep(1000)
        """,
        "out_of_memory",
    ),
    _while(
        "memory_behind_descriptors",
        "hides memory in the buffers of lines between its children",
        """
        def fill():
            ends = [end for _ in range(110) for end in socket.socketpair()]
            for end in ends:
                end.setblocking(False)
                try:
                    while True: end.send(bytes(65536))
                except OSError: pass
            time.sleep(1000)
        for _ in range(30): in_child(fill)
        time.sleep(1000)
        """,
        "out_of_memory",
    ),
    _while("aborts", "asks for a core dump", "\nos.chdir('/tmp')\nos.abort()", "crashed"),
    _while(
        "becomes_another_program",
        "puts another program in its place",
        "\nos.execv('/bin/sleep', ['hostile-sleep', '1000'])",
        "crashed|timed_out",
    ),
    _while("closes_everything", "closes every file", "\nos.closerange(0, 256)", NO_POINTS),
    _while(
        "writes_without_end",
        "writes where nobody reads",
        "\nwhile True: os.write(1, bytes(10_000_000))",
        "timed_out",
    ),
    _then(
        "no_permissions",
        "stands in another folder with all permissions switched off",
        "os.chdir('/')\nos.umask(0o777)\n",
    ),
    _then(
        "uses_processes_as_taught",
        "is honest, and computes in a pool of processes",
        """
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        with ProcessPoolExecutor(2, multiprocessing.get_context('fork')) as pool:
            assert list(pool.map(abs, [-1, 2])) == [1, 2]
        """,
    ),
    # -- what is not theirs to read ---------------------------------------------------------
    _read("reads_submissions", "reads what others handed in", "@CLASS@/**"),
    _read("reads_results", "reads the results", "@OUT@/**"),
    _read(
        "reads_the_home",
        "reads the instructor's home",
        *("@HOME@/**", "/root/*", "/home/**", "/var/**", "/etc/shadow*", "/etc/passwd-"),
    ),
    _read("reads_the_lab", "reads the lab's own files and passwords", "@LAB@/**", "/run/**"),
    _read(
        "reads_solutions",
        "reads the answers and the checks",
        *("@REPOSITORY@/solutions/**", "@REPOSITORY@/checks/**", "@REPOSITORY@/tests/**"),
        *("@REPOSITORY@/.git/**", "@REPOSITORY@/notebooks/**"),
    ),
    _then(
        "imports_solutions",
        "imports the checks, and the grader",
        """
        for name in [name for name in sys.modules if name.startswith('checks')]:
            del sys.modules[name]
        try: import checks.pooling
        except ImportError: pass
        else: raise WentThrough(checks.pooling.__file__)
        import engineroom.grading.sandbox as sandbox
        refused(sandbox=lambda: sandbox.find_sandbox('bubblewrap') and 0)
        """,
        fair="passed|error",
    ),
    _then(
        "reads_the_environment",
        "reads the environment, its own and others'",
        """
        told = dict(os.environ)
        for path in glob.glob('/proc/*/environ'):
            told[path] = open(path, errors='replace').read()
        if 'ENGINEROOM' in str(told) or 'canary' in str(told): raise WentThrough(told)
        """,
    ),
    _then(
        "searches_its_memory",
        "looks in its own memory for what was there before it",
        """
        import re
        from urllib.parse import urlsplit
        from engineroom import lab
        own = urlsplit(lab.url).path[1:].encode()
        with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:
            for line in maps:
                place, rights = line.split()[:2]
                start, end = (int(part, 16) for part in place.split('-'))
                if not rights.startswith('rw') or end - start > 2**28: continue
                try:
                    memory.seek(start)
                    found = memory.read(end - start)
                except OSError: continue
                if re.search(rb'canar[y]-4711', found): raise WentThrough('of another submission')
                others = set(re.findall(rb'er_[0-9a-z]{3,16}_[0-9a-f]{8}', found)) - {own}
                if others: raise WentThrough(others)
        """,
    ),
    _then(
        "lists_descriptors",
        "uses what files were open before it began",
        """
        for name in os.listdir('/proc/self/fd'):
            try: target = os.readlink(f'/proc/self/fd/{name}')
            except OSError: continue
            if not target.startswith(('socket:', 'pipe:', 'anon_inode:')) and target not in (
                    '/dev/null', f'/proc/{os.getpid()}/fd'):
                raise WentThrough(target)
        sockets = [fd for fd in range(256) if os.path.exists(f'/proc/self/fd/{fd}')
                   and os.readlink(f'/proc/self/fd/{fd}').startswith('socket:')]
        if len(sockets) > 3: raise WentThrough(sockets)  # the judge's line, and the loop's own two
        """,
    ),
    # -- files ------------------------------------------------------------------------------
    _then(
        "writes_everywhere",
        "writes where it has no business",
        """
        places = ['/', '/etc', '/usr', '/usr/lib', '/bin', '/dev', '/proc/sys/kernel', '/sys',
                  '/run', '/var/tmp', '/home', '/root', sys.prefix, *sys.path, '@OUT@', '@CLASS@',
                  '@HOME@', '@LAB@', '@REPOSITORY@', os.path.dirname(os.__file__)]
        for place in places:
            own = os.path.isdir(place) and os.stat(place).st_dev == os.stat('/tmp').st_dev
            if place and not own:
                path = f'{place}/hostile-was-here.pth'
                refused(write=lambda: (path, open(path, 'w').write('import os')))
        for path in (sys.executable, os.__file__, '/etc/passwd', '/etc/hosts',
                     '/proc/sysrq-trigger', '/proc/sys/kernel/core_pattern',
                     '/proc/sys/net/ipv4/tcp_rmem',
                     '/proc/1/setgroups', '/proc/1/uid_map'):
            refused(change=lambda: (path, open(path, 'r+b', 0).write(b'x')),
                    remove=lambda: (path, os.unlink(path)),
                    permit=lambda: (path, os.chmod(path, 0o4777)),
                    move=lambda: (path, os.rename(path, path + '.hostile')))
        """,
    ),
    _then(
        "looks_into_temporary_folders",
        "finds the temporary files of others",
        """
        found = set(os.listdir('/tmp') + os.listdir('/dev/shm')) - {'engineroom'}
        found -= set('@REPOSITORY@'.split('/'))  # where the course itself may lie
        if not all(name.startswith('engineroom-') for name in found): raise WentThrough(found)
        if glob.glob('/tmp/engineroom-*/keeper*') or glob.glob('/tmp/er-*'):
            raise WentThrough("the lab's sockets")
        """,
    ),
    _then(
        "fills_the_disk",
        "writes until nothing more fits",
        """
        for place in ('/tmp', '/dev/shm'):
            for number in range(100):
                try:
                    with open(f'{place}/hostile-{number}', 'wb') as file:
                        while True: file.write(bytes(2**20))
                except OSError as error:
                    if error.errno == errno.ENOSPC: break
            else: raise WentThrough('a hundred large files')
        """,
    ),
    _then(
        "a_hundred_thousand_files",
        "makes more files than a folder likes",
        """
        os.mkdir('/tmp/hostile-files')
        try:
            for number in range(100_000): os.close(os.open(
                f'/tmp/hostile-files/{number}', os.O_CREAT))
        except OSError: pass
        else: raise WentThrough('a hundred thousand')
        """,
    ),
    _then(
        "a_deep_folder",
        "makes a folder in a folder in a folder",
        """
        try:
            for _ in range(10_000):
                os.mkdir('hostile-deep'); os.chdir('hostile-deep')
        except OSError: pass
        os.chdir('/tmp')
        """,
    ),
    _then(
        "special_files",
        "leaves links, pipes and devices behind, with strange names",
        """
        import stat
        targets = ('/etc/shadow', '@OUT@/results.jsonl', '@HOME@', '/proc/1')
        for number, target in enumerate(targets):
            os.symlink(target, f'/tmp/hostile-link-{number}')
        os.mkfifo('/tmp/hostile-pipe')
        os.mkfifo('/dev/shm/hostile-pipe')
        socket.socket(socket.AF_UNIX).bind('/tmp/hostile-socket')
        open('/tmp/hostile-\\n\\x1b[2J-rf *', 'w').close()
        refused(
            device=lambda: os.mknod('/tmp/hostile-memory', stat.S_IFCHR | 0o666, os.makedev(1, 1)),
            disk=lambda: os.mknod('/tmp/hostile-disk', stat.S_IFBLK | 0o666, os.makedev(8, 0)),
            hard=lambda: os.link('/etc/passwd', '/tmp/hostile-passwd'),
        )
        """,
    ),
    _then(
        "becomes_root",
        "changes its account, by calls and by programs that may",
        """
        refused(
            user=lambda: os.setuid(0), effective=lambda: os.seteuid(0), group=lambda: os.setgid(0),
            groups=lambda: os.setgroups([0]), saved=lambda: os.setresuid(0, 0, 0),
            capable=lambda: libc.prctl(47, 2, 0, 0, 0), new=lambda: libc.prctl(38, 0, 0, 0, 0),
        )
        open('/tmp/hostile-shell', 'wb').write(open('/bin/sh', 'rb').read())
        os.chmod('/tmp/hostile-shell', 0o6755)
        for command in (['su', '-c', 'true'], ['sudo', '-n', 'true'], ['unshare', '-r', 'true'],
                        ['bwrap', '--ro-bind', '/', '/', 'true'],
                        ['mount', '-t', 'tmpfs', 'x', '/'],
                        ['/tmp/hostile-shell', '-c', '[ $(id -u) = 0 ]'], ['newuidmap', '1']):
            refused(program=lambda: command if subprocess.run(
                command, stdin=subprocess.DEVNULL).returncode == 0 else -1)
        """,
    ),
    _then(
        "comes_out_of_its_root",
        "changes its root, its mounts and its namespaces",
        """
        refused(
            root=lambda: os.chroot('/tmp'),
            mount=lambda: libc.mount(b'proc', b'/tmp', b'proc', 0, None),
            bind=lambda: libc.mount(b'/', b'/tmp', None, 4096, None),
            remount=lambda: libc.mount(None, b'/', None, 32, None),
            unmount=lambda: libc.umount2(b'/tmp', 2),
            proc=lambda: libc.umount2(b'/proc', 2),
            pivot=lambda: call(by_machine(155, 41), 0, 0),
            open_tree=lambda: call(428, -100, 0, 1), fsopen=lambda: call(430, 0, 0),
            setattr=lambda: call(442, -100, 0, 0, 0, 0),
            unshare=lambda: libc.unshare(0x10000000), network=lambda: libc.unshare(0x40000000),
            names=lambda: libc.unshare(0x00020000), group=lambda: libc.unshare(0x02000000),
            join=lambda: libc.setns(os.open('/proc/self/ns/mnt', os.O_RDONLY), 0),
            by_handle=lambda: libc.open_by_handle_at(-100, bytes(128), 0),
            clone=lambda: call(by_machine(56, 220), 0x10000000 | 17, 0, 0, 0, 0),
            clone3=lambda: call(435, 0, 0),
        )
        """,
    ),
    # -- the kernel -------------------------------------------------------------------------
    _then(
        "knocks_at_the_kernel",
        "makes calls that no answer needs and that kernels were attacked by",
        """
        refused(
            io_uring=lambda: call(425, 8, ctypes.addressof(ctypes.create_string_buffer(120))),
            bpf=lambda: call(by_machine(321, 280), 0, 0, 0),
            userfault=lambda: call(by_machine(323, 282), 1),
            perf=lambda: call(by_machine(298, 241), 0, 0, -1, -1, 0),
            keyctl=lambda: call(by_machine(250, 219), 0, -3, 1),
            add_key=lambda: call(by_machine(248, 217), 0, 0, 0, 0, -3),
            module=lambda: call(by_machine(175, 105), 0, 0, 0),
            kexec=lambda: call(by_machine(246, 104), 0, 0, 0, 0),
            reboot=lambda: call(by_machine(169, 142), 0xfee1dead, 672274793, 0, 0),
            swap=lambda: call(by_machine(168, 225), 0),
            clock=lambda: time.clock_settime(time.CLOCK_REALTIME, 0.0),
            name=lambda: socket.sethostname('hostile'),
            log=lambda: call(by_machine(103, 116), 3, 0, 0),
            watch_all=lambda: call(by_machine(300, 262), 0, 0),
            memory_file=lambda: os.memfd_create('hostile'),
            secret=lambda: call(447, 0),
            personality=lambda: call(by_machine(135, 92), 0x0400000),
            landlock_of_32_bits=lambda: call(0x40000000 + 39),
        )
        """,
    ),
    _then(
        "shared_memory",
        "meets others in shared memory, semaphores and message queues",
        """
        refused(
            segment=lambda: libc.shmget(4711, 4096, 0o1666),
            semaphores=lambda: libc.semget(4711, 1, 0o1666),
            queue=lambda: libc.msgget(4711, 0o1666),
            mqueue=lambda: call(by_machine(240, 180), 0, 0, 0, 0),
        )
        for kind in ('shm', 'sem', 'msg'):
            lines = open(f'/proc/sysvipc/{kind}').read().splitlines()
            if len(lines) > 1: raise WentThrough(lines)
        from multiprocessing import shared_memory
        kept = shared_memory.SharedMemory('hostile-memory', create=True, size=4096)
        """,
    ),
    # -- sockets ----------------------------------------------------------------------------
    _then(
        "knocks_at_every_door",
        "looks for servers of the host and of its neighbours",
        """
        listening = [line.split()[1] for kind in ('tcp', 'tcp6')
                     for line in open(f'/proc/net/{kind}').read().splitlines()[1:]
                     if line.split()[3] == '0A']
        if len(listening) > 5: raise WentThrough(listening)
        hosts = ('10.0.0.1', '172.17.0.1', '192.168.1.1', '169.254.169.254', '203.0.113.1')
        for host in hosts:
            refused(connect=lambda: socket.create_connection((host, 80), 1),
                    send=lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', (host, 53)))
        refused(name=lambda: socket.getaddrinfo('example.org', 80))
        devices = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]
        if devices != ['lo']: raise WentThrough(devices)
        """,
    ),
    _then(
        "other_families",
        "speaks to the kernel and the machine by other kinds of sockets",
        """
        for family in [16, 17, 38, 40, 44, 29, 31, 3, 4]:
            refused(socket=lambda: (family, socket.socket(family, socket.SOCK_RAW)))
            refused(plain=lambda: (family, socket.socket(family, socket.SOCK_DGRAM)))
        refused(raw=lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
        """,
    ),
    _then(
        "abstract_sockets",
        "meets its neighbours at sockets that are no files",
        """
        there = [line.split()[7] for line in open('/proc/net/unix').read().splitlines()[1:]
                 if len(line.split()) > 7 and '/.s.PGSQL.' not in line]
        if there: raise WentThrough(there)
        kept = socket.socket(socket.AF_UNIX)
        kept.bind('\\0hostile')  # would be taken if there were one place for all
        kept.listen()
        """,
    ),
    _then(
        "sits_at_the_door",
        "listens where its own database is reached",
        """
        from engineroom import lab
        from urllib.parse import urlsplit
        port = urlsplit(lab.url).port
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            for host in ('127.0.0.1', '0.0.0.0'):
                taken = socket.socket()
                taken.setsockopt(socket.SOL_SOCKET, option, 1)
                refused(bind=lambda: taken.bind((host, port)))
        """,
    ),
    _then(
        "a_thousand_lines",
        "opens more lines to the server than it has places",
        """
        from engineroom import lab
        from urllib.parse import urlsplit
        lines = []
        try:
            for _ in range(1000):
                lines.append(socket.create_connection(('127.0.0.1', urlsplit(lab.url).port), 1))
        except OSError: pass
        for line in lines: line.close()
        """,
        fair="passed|error",
    ),
]
