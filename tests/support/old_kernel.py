"""Runs a module as on a kernel without seccomp: `python -m tests.support.old_kernel MODULE`."""

import ctypes
import os
import runpy
import struct
import sys

from api.images.confinement import NUMBERS

INSTRUCTION = struct.Struct("=HBBI")
PRCTL = {"x86_64": 157, "aarch64": 167}
EINVAL = 22
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def forget_seccomp() -> None:
    """Make this process and those it starts fail to set a filter, as on an old kernel."""
    assert os.uname().machine in NUMBERS
    code = b"".join(
        INSTRUCTION.pack(*each)
        for each in (
            (0x20, 0, 0, 0),  # the number of the call
            (0x15, 0, 3, PRCTL[os.uname().machine]),
            (0x20, 0, 0, 16),  # its first argument
            (0x15, 0, 1, PR_SET_SECCOMP),
            (0x06, 0, 0, 0x00050000 | EINVAL),
            (0x06, 0, 0, 0x7FFF0000),
        )
    )
    program = Program(len(code) // INSTRUCTION.size, code)
    libc = ctypes.CDLL(None)
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    assert libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0) == 0


if __name__ == "__main__":
    module, sys.argv = sys.argv[1], sys.argv[1:]
    forget_seccomp()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
