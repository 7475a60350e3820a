"""The child processes that read Parquet and Arrow files, as their parent sees them."""

import atexit
import os
import subprocess
from collections.abc import Generator
from multiprocessing import Pipe
from threading import BoundedSemaphore
from typing import Any

from coreset.entry_points import module_command
from coreset.errors import ShardUnreadable, Unavailable
from coreset_workers.data.opening import allowed

CHILD = "coreset_workers.data.tables.child"

MAX_CHILDREN = 4
MAX_CHILD_BYTES = 2**32
"""Address space of a child."""

MAX_QUESTIONS = 64
"""Files that a child reads; then another one takes its place, since freed memory is not always given back."""


class DamagedRows(Exception):
    """The file is damaged, or harms the process that reads it; its words say how."""


class _Child:
    """A process of coreset_workers.data.tables.child, which lives until its connection is closed."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.questions = 0
        with theirs:
            command = module_command(CHILD, str(theirs.fileno()), str(MAX_CHILD_BYTES))
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


_idle: list[_Child] = []
_places = BoundedSemaphore(MAX_CHILDREN)


def _take() -> _Child:
    try:
        return _idle.pop()
    except IndexError:
        return _Child()


def ask(kind: str, uri: str, *arguments: object) -> Generator[Any]:
    """Yield the answers of a child to a question about a file. A child that answered in full is asked again.

    Raises:
        DamagedRows: after the answers before the damage.
        ShardUnreadable: the file cannot be opened.
        Unavailable: the storage fails in a way that may pass.
    """
    with _places:
        child = _take()
        child.questions += 1
        ended = False
        try:
            child.connection.send((kind, allowed(), (uri, *arguments)))
            while (answer := child.connection.recv())[0] == "value":
                yield answer[1]
            ended = child.questions < MAX_QUESTIONS
        except (EOFError, OSError) as error:
            raise DamagedRows("the process that read it died: it takes too much memory, or is damaged") from error
        finally:
            if ended:
                _idle.append(child)
            else:  # it is dead, or in the midst of a file
                child.end()
    _require_end(uri, *answer)


def _require_end(uri: str, kind: str, words: str | None) -> None:
    if kind == "damage":
        raise DamagedRows(f"damaged or of another format ({words})")
    if kind == "refused":
        raise ShardUnreadable(f"{uri} cannot be opened: {words}", uri=uri)
    if kind == "away":
        raise Unavailable(f"{uri} cannot be opened now: {words}", uri=uri)


@atexit.register
def end_children() -> None:
    """End the children that wait for questions."""
    while _idle:
        _idle.pop().end()


os.register_at_fork(after_in_child=_idle.clear)
