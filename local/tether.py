"""Run a command that receives a signal when its launcher dies: `tether.py SIGNAL COMMAND ...`.

A wrapper rather than subprocess' `preexec_fn`, which is unsafe in a process with threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(sys.argv[1]), 0, 0, 0)
os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  the argv comes from local.part.Process
