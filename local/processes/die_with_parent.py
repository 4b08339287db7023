"""Runs a command that gets a signal when its launcher dies.

`die_with_parent.py SIGNAL LAUNCHER COMMAND ...`.

A wrapper rather than subprocess' `preexec_fn`, which is unsafe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[1]), 0, 0, 0)
if os.getppid() != int(sys.argv[2]):
    sys.exit("the launcher died first")
os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606  the argv comes from local.processes.process.Process
