"""The activity of a decoder's fork, as seen from outside."""

import psutil


def is_decoding(process: psutil.Process) -> bool:
    """Say whether this is a fork that has read its image: it has closed the gateway's socket."""
    try:
        parent = process.parent()
        return (
            parent is not None
            and parent.cmdline() == process.cmdline()
            and process.num_fds() < parent.num_fds()
        )
    except psutil.Error:
        return False
