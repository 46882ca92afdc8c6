"""Inside the sandbox: what a new subject does before a line of a learner's code runs.

The warm parent already sits in a sandbox of its own (``engineroom.grading.sandbox``): a read-only
system, no network, an account that owns nothing. Here each subject gets a world to itself in it:
its own processes, mounts, loopback and memory segments, limits, and no way to make further ones.

Linux only, and nothing but the standard library: this runs in a fork, before anything else.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import platform
import re
import resource
import socket
import stat
import struct
from typing import Any

# Namespaces, as clone(2) has them: users, processes, mounts, network, System V memory.
_NEW_USER, _NEW_PID, _NEW_MOUNTS, _NEW_NET, _NEW_IPC = (
    0x10000000, 0x20000000, 0x00020000, 0x40000000, 0x08000000,
)  # fmt: skip
_ALL_NAMESPACES = 0x7E020080
_NOSUID, _NODEV, _NOEXEC, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 8, 0x1000, 0x4000, 0x40000
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 4, 22, 24
_PR_SET_NO_NEW_PRIVS = 38
_SIOCSIFFLAGS, _IFF_UP_RUNNING = 0x8914, 0x41

SHOWN = "/tmp/engineroom"  # noqa: S108
"""Where the files lie that a subject is given: in its own, otherwise empty, folder for such."""

TEMPORARY_FILES = 64 * 2**20
_OWN = {
    "/tmp": TEMPORARY_FILES,  # noqa: S108
    "/dev/shm": 16 * 2**20,  # noqa: S108
    "/dev/pts": 4096,  # where one subject's terminals would be another's
}
_PROCESSES = 64
_OPEN_FILES = 256
_WAITING_SIGNALS = 256
_MODEST = {
    # When the machine has no memory left, it is a subject that goes, not Postgres or the grader.
    "/proc/self/oom_score_adj": "1000",
    # What a connection's buffers may grow to counts against no limit of a process.
    "/proc/sys/net/ipv4/tcp_rmem": "4096 65536 262144",
    "/proc/sys/net/ipv4/tcp_wmem": "4096 65536 262144",
}

_libc: Any = ctypes.CDLL(None, use_errno=True)


_own_processes = -1
_shown: dict[str, list[str]] = {}
"""What the sandbox shows below each folder that a subject has one of its own of."""


def prepare() -> None:
    """What the warm parent does first: go on as a process that may give each of its children a
    world of processes to itself. The caller's own process only waits for how that one ends.

    It takes a namespace of users, which gives every capability in there and none over anything
    outside. Without, each birth would need a fork in between, and is half a fork as it is.
    """
    global _own_processes
    _in_a_namespace_of_users(_NEW_USER | _NEW_PID | _NEW_MOUNTS)
    warm = os.fork()
    if warm:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(warm, 0)[1]) & 0xFF)
    _mount("", "/", "", _RECURSIVE | _PRIVATE)
    _mount_processes()
    _own_processes = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _shown.update((place, _shown_below(place)) for place in _OWN)
    _filter()


def seal() -> None:
    """Let no process of the same account read this one's memory, or those born of it."""
    _must(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def enter() -> int:
    """Fork; the new process, which gets 0, is the first of a world of processes."""
    # Whoever has made such a world for a child makes no other before it is back in its own.
    _must(_libc.setns(_own_processes, _NEW_PID))
    _must(_libc.unshare(_NEW_PID))
    return os.fork()


def _in_a_namespace_of_users(flags: int) -> None:
    user, group = os.getuid(), os.getgid()
    _must(_libc.unshare(flags))
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as handle:
            handle.write(text)


def _mount_processes() -> None:
    _mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)


def settle(doors: list[str], spare: int, files: dict[str, str], memory: int) -> list[socket.socket]:
    """Furnish the new world, open its doors, and throw away the keys.

    A door is a listening socket in here whose other side the judge holds: ``tcp:5432`` for a port
    of loopback, or a path for a Unix socket. There is no other way out.
    """
    _must(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))  # or its own /proc files are not its own
    # Mounts belong to the parent's namespace of users, so from the next step on nobody in here
    # may change them; every other namespace belongs to the subject's own.
    _must(_libc.unshare(_NEW_MOUNTS))
    _mount("", "/", "", _RECURSIVE | _PRIVATE)
    _mount_processes()
    for place, size in _OWN.items():
        _own(place, size)
    _in_a_namespace_of_users(_NEW_USER | _NEW_NET | _NEW_IPC)
    os.chdir("/tmp")  # noqa: S108
    for name, text in files.items():
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "x") as handle:
            handle.write(text)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        up = struct.pack("16sH14x", b"lo", _IFF_UP_RUNNING)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, up)
    for file, text in _MODEST.items():
        with open(file, "w") as handle:
            handle.write(text)
    opened = [_open(door) for door in [*doors, *["tcp:0"] * spare]]
    _limit(memory)
    _drop_capabilities()
    _must(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _filter_system_calls()
    return opened


def _mount(what: str, place: str, kind: str, flags: int, options: str = "") -> None:
    words = [ctypes.c_char_p(word.encode() or None) for word in (what, place, kind, options)]
    _must(_libc.mount(*words[:3], flags, words[3]))


def _own(place: str, size: int) -> None:
    """A folder of this subject's own. What the sandbox shows below it is shown again: packages
    may be there, when the course lies in ``/tmp``, and the certificate of the lab's authority."""
    shown = [(path, os.open(path, os.O_PATH)) for path in _shown[place]]
    _mount("tmpfs", place, "tmpfs", _NOSUID | _NODEV, f"size={size},nr_inodes=20000,mode=1777")
    for path, handle in shown:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.makedirs(path, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        _mount(f"/proc/self/fd/{handle}", path, "", _BIND | _RECURSIVE)
        os.close(handle)


def _shown_below(place: str) -> list[str]:
    """What is mounted below a folder, without what lies below another of these."""
    found: list[str] = []
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), line.split()[4])
            if not any(path == other or path.startswith(f"{other}/") for other in found) and (
                path.startswith(f"{place}/")
            ):
                found.append(path)
    return found


def _open(door: str) -> socket.socket:
    if door.startswith("tcp:"):
        listening = socket.socket()
        # Not SO_REUSEADDR or SO_REUSEPORT: nobody in here may sit down at the same port.
        listening.bind(("127.0.0.1", int(door[4:])))
    else:
        os.makedirs(os.path.dirname(door), exist_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(door)
    listening.listen(128)
    return listening


def _limit(memory: int) -> None:
    for what, most in (
        (resource.RLIMIT_NPROC, _PROCESSES),
        (resource.RLIMIT_SIGPENDING, _WAITING_SIGNALS),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_DATA, memory),
    ):
        resource.setrlimit(what, (most, most))


def limit_files() -> None:
    """How many files may be open; and the last thing to do, because it also limits what is under
    way from process to process, of all subjects together: doors could not be handed out."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))


def _drop_capabilities() -> None:
    """A new user namespace gives every capability in it; what is left to do needs none."""
    for capability in range(64):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # this kernel knows no more of them
    header = struct.pack("Ii", 0x20080522, 0)
    _must(_libc.capset(header, bytes(24)))


# What no answer needs, and what has been used against kernels: by number on each machine.
_X86_64 = {
    "arch": 0xC000003E, "clone": 56, "clone3": 435, "socket": 41, "setsockopt": 54,
    "denied": (
        # namespaces and mounts
        272, 308, 165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442, 467,
        # other processes, kernel keys and programs, tracing
        101, 310, 311, 312, 438, 440, 248, 249, 250, 321, 298, 323, 425, 426, 427, 304, 303, 300,
        # modules, reboot, clocks, swap, memory that no limit counts or that is elsewhere
        175, 176, 313, 169, 246, 320, 227, 305, 159, 167, 168, 319, 447, 29, 30, 68, 64, 240,
        256, 279,
        # raw ports, segments and personalities, quotas, the kernel's log
        172, 173, 154, 135, 179, 443, 103, 163, 212,
        # a session of one's own, which gets a share of the machine's time of its own
        112,
    ),
}  # fmt: skip
_AARCH64 = {
    "arch": 0xC00000B7, "clone": 220, "clone3": 435, "socket": 198, "setsockopt": 208,
    "denied": (
        97, 268, 40, 39, 41, 51, 428, 429, 430, 431, 432, 433, 442, 467,
        117, 270, 271, 272, 438, 440, 217, 218, 219, 280, 241, 282, 425, 426, 427, 265, 264, 262,
        105, 106, 273, 142, 104, 294, 112, 266, 171, 224, 225, 279, 447, 194, 196, 186, 190, 180,
        238, 239,
        92, 60, 443, 116, 89, 18,
        157,
    ),
}  # fmt: skip
_ALLOW, _DENY, _KILL, _UNKNOWN, _PRETEND = (
    0x7FFF0000, 0x00050001, 0x80000000, 0x00050026, 0x00050000,
)  # fmt: skip
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_X32 = 0x40000000  # the same calls by other numbers
_NUMBER, _ARCH, _FIRST, _SECOND, _THIRD = 0, 4, 16, 24, 32

_LOOK_CLOSER: dict[str, list[tuple[int, int, int, int]]] = {
    # It hides its flags in memory, where a filter cannot look; libc falls back to clone.
    "clone3": [(_RETURN, 0, 0, _UNKNOWN)],
    "clone": [
        (_LOAD, 0, 0, _FIRST),
        (_ANY_BIT, 0, 1, _ALL_NAMESPACES),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ],
    "socket": [
        (_LOAD, 0, 0, _FIRST),
        *((_EQUAL, 3 - n, 0, family) for n, family in enumerate((1, 2, 10))),
        (_RETURN, 0, 0, _DENY),
        (_RETURN, 0, 0, _ALLOW),
    ],
    # A machine may allow buffers of megabytes, which are nobody's memory: they stay as they are.
    "setsockopt": [
        (_LOAD, 0, 0, _SECOND),
        (_EQUAL, 0, 4, socket.SOL_SOCKET),
        (_LOAD, 0, 0, _THIRD),
        (_EQUAL, 1, 0, socket.SO_SNDBUF),
        (_EQUAL, 0, 1, socket.SO_RCVBUF),
        (_RETURN, 0, 0, _PRETEND),
        (_RETURN, 0, 0, _ALLOW),
    ],
}


def _filter_system_calls() -> None:
    steps, code = _filter()
    header = struct.pack("HxxxxxxP", steps, ctypes.addressof(code))
    _must(_libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0))


@functools.cache
def _filter() -> tuple[int, Any]:
    """For seccomp: refuses what the lists above name, sockets of other kinds too."""
    machine = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine())
    if machine is None:
        raise OSError(f"no list of system calls for {platform.machine()}")
    steps: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, int(str(machine["arch"]))),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _DENY),
    ]
    denied = machine["denied"]
    assert isinstance(denied, tuple)
    for number in denied:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DENY)]
    for name, block in _LOOK_CLOSER.items():
        steps += [(_EQUAL, 0, len(block), int(str(machine[name]))), *block]
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = b"".join(struct.pack("HBBI", *step) for step in steps)
    return len(steps), ctypes.create_string_buffer(program, len(program))


def _must(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
