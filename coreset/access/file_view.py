"""Mark of the files that a process sees: equal marks mean that a local path is the same file for both."""

import os
from pathlib import Path

FILE_VIEW = "file_view"
"""Field of the mark in a worker's report."""


def file_view() -> str | None:
    """Return the mark of this process: machine, mount namespace and root. None where the system has none of these."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        root = os.stat("/")
        return f"{boot} {os.readlink('/proc/self/ns/mnt')} {root.st_dev}:{root.st_ino}"
    except OSError:
        return None
