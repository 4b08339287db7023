"""What the process of an image gives up before it reads the image: all system calls except a few.

The filter is seccomp, in classic BPF. A fork that an image has taken over can then neither open,
change nor remove a file, nor connect, start a program, or signal another process. A forbidden call
fails with EPERM. The fork may start threads of its own, under the same filter, because the decoder
of HEIC does. Run as a program, this module tests the filter; `decoder_is_confined` starts it.
"""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final

from shared.errors import Unavailable

ROOT: Final = Path(__file__).parents[2]
PROBE_SECONDS: Final = 30.0

ALLOWED: Final = (
    *("mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "futex", "getrandom"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday"),
    *("getpid", "gettid", "sched_yield", "sched_getaffinity", "exit", "exit_group"),
    "getcwd",  # Pillow compares file names when it saves, even if there are none.
    *("write", "close"),  # The only open file is then the end of a pipe to its own decoder.
    *("set_robust_list", "rseq"),  # The first call of a new thread.
)
ON_ITSELF: Final = ("kill", "tgkill")
"""Allowed with the process's own id, because `abort` uses it."""

NEW_THREAD: Final = "clone"
"""Allowed if it makes a thread; a new process is refused."""

NEWER_CLONE: Final = "clone3"
"""Reported as missing, because no filter can read its flags: the C library then uses `clone`."""

NUMBERS: Final = {
    "x86_64": {
        **{"write": 1, "close": 3, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12},
        **{"rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "sched_yield": 24},
        **{"mremap": 25, "madvise": 28, "nanosleep": 35, "getpid": 39, "exit": 60, "kill": 62},
        **{"getcwd": 79, "gettimeofday": 96, "sigaltstack": 131, "gettid": 186, "futex": 202},
        **{"sched_getaffinity": 204, "clock_gettime": 228, "clock_getres": 229},
        **{"clock_nanosleep": 230, "exit_group": 231, "tgkill": 234, "getrandom": 318},
        **{"clone": 56, "set_robust_list": 273, "rseq": 334, "clone3": 435},
    },
    "aarch64": {
        **{"getcwd": 17, "close": 57, "write": 64, "exit": 93, "exit_group": 94, "futex": 98},
        **{"nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115},
        **{"sched_getaffinity": 123, "sched_yield": 124, "kill": 129, "tgkill": 131},
        **{"sigaltstack": 132, "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139},
        **{"gettimeofday": 169, "getpid": 172, "gettid": 178, "brk": 214, "munmap": 215},
        **{"mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278},
        **{"clone": 220, "set_robust_list": 99, "rseq": 293, "clone3": 435},
    },
}
"""Numbers of system calls, which never change, by the machine's name for itself."""

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# linux/seccomp.h, linux/prctl.h and linux/bpf_common.h
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | 1  # SECCOMP_RET_ERRNO with EPERM
_SET_SECCOMP, _FILTER, _SET_NO_NEW_PRIVS = 22, 2, 38
_UNKNOWN: Final = 0x00050000 | 38  # ENOSYS
_CLONE_THREAD: Final = 0x00010000  # linux/sched.h
_LOAD, _IF_EQUAL, _IF_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_INSTRUCTION: Final = struct.Struct("=HBBI")

# Loaded with the module, because a confined process can open no file to load it.
_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def confine() -> bool:
    """Give up all calls except the allowed ones, for good, in this thread and in those it starts.

    Returns:
        Whether the kernel accepted the filter; if not, nothing has changed.
    """
    machine = os.uname().machine
    if machine not in NUMBERS or sys.maxsize < 2**32:
        return False
    code = b"".join(_filter(machine, os.getpid()))
    program = _Program(len(code) // _INSTRUCTION.size, code)
    return not (
        _libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        or _libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)
    )


@cache
def decoder_is_confined() -> bool:
    """Say whether the process of an image is confined on this machine, as tested once.

    Raises:
        Unavailable: the test did not end in time; a later one may.
    """
    try:
        trial = subprocess.run(
            [sys.executable, "-P", "-m", "api.images.confinement"],
            env={"PYTHONPATH": str(ROOT)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable("whether decoders are confined could not be tried out") from error
    return trial.returncode == 0


def check_confined() -> None:
    """Raise if decoders are not confined; for `/readyz`.

    Raises:
        Unavailable: they are not confined, or it is not known.
    """
    if not decoder_is_confined():
        raise Unavailable(
            "this kernel has no seccomp filter: the process of an image has its limits and can"
            " open nothing, but it is not confined; run on a kernel with seccomp"
        )


def _filter(machine: str, pid: int) -> Iterator[bytes]:
    numbers = NUMBERS[machine]
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _ARCH_AT)
    yield _INSTRUCTION.pack(_IF_EQUAL, 1, 0, AUDIT_ARCH[machine])
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _REFUSE)
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER_AT)
    for name in ALLOWED:
        yield _INSTRUCTION.pack(_IF_EQUAL, 0, 1, numbers[name])
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)
    yield _INSTRUCTION.pack(_IF_EQUAL, 0, 1, numbers[NEWER_CLONE])
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _UNKNOWN)
    yield _INSTRUCTION.pack(_IF_EQUAL, 0, 4, numbers[NEW_THREAD])
    yield _INSTRUCTION.pack(_LOAD, 0, 0, _FIRST_ARGUMENT_AT)
    yield _INSTRUCTION.pack(_IF_SET, 0, 1, _CLONE_THREAD)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _REFUSE)
    for name in ON_ITSELF:
        yield _INSTRUCTION.pack(_IF_EQUAL, 0, 4, numbers[name])
        yield _INSTRUCTION.pack(_LOAD, 0, 0, _FIRST_ARGUMENT_AT)
        yield _INSTRUCTION.pack(_IF_EQUAL, 0, 1, pid)
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW)
        yield _INSTRUCTION.pack(_RETURN, 0, 0, _REFUSE)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, _REFUSE)


def _is_walled_off() -> bool:
    """Say whether this process, once confined, fails to reach anything outside of itself."""
    parent = os.getppid()
    attempts: tuple[Callable[[], object], ...] = (
        lambda: os.open("/dev/null", os.O_RDONLY),
        Path("/").stat,
        lambda: os.kill(parent, 0),
        lambda: os.kill(0, signal.SIGCONT),
        socket.socket,
        os.fork,
    )
    if not confine():
        return False
    for attempt in attempts:
        with suppress(PermissionError):
            attempt()
            return False
    return True


if __name__ == "__main__":
    os._exit(0 if _is_walled_off() else 1)
