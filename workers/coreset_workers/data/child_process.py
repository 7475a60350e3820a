"""What child processes of a worker have in common: they end with it."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process when its parent is gone: a killed worker cannot stop its children."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
