"""Shows open_clip's training as one progress bar, fed from its log lines; the lines themselves stay in out.log."""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

TRAIN_LINE = re.compile(
    r"Train Epoch: (?P<epoch>\d+) .*\((?P<percent>\d+)%\).* Loss: (?P<loss>[\d.]+) \((?P<mean>[\d.]+)\)"
)


class ProgressHandler(logging.Handler):
    """Moves a bar of `epochs` units by the lines that open_clip's trainer logs."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        super().__init__(logging.INFO)
        self._progress = progress
        self._epochs = epochs
        self._task: TaskID = progress.add_task("training CLIP", total=epochs, loss="loading")

    def emit(self, record: logging.LogRecord) -> None:
        line = TRAIN_LINE.search(record.getMessage())
        if line is None:
            return
        epoch = int(line["epoch"])
        self._progress.update(
            self._task,
            completed=epoch + int(line["percent"]) / 100,
            loss=f"epoch {epoch + 1}/{self._epochs}, loss {float(line['mean']):.2f}",
        )


@contextlib.contextmanager
def training_progress(epochs: int) -> Iterator[None]:
    """Show progress instead of log lines; the root logger is left as it was found."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"), TimeElapsedColumn())
    with Progress(*columns) as progress, _own_logging(), _warnings_to_log():
        logging.root.addHandler(ProgressHandler(progress, epochs))
        # open_clip adds a handler on sys.stderr; out.log holds the same lines.
        with contextlib.redirect_stderr(io.StringIO()):
            yield


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """Take off and close the handlers that are added to the root logger inside, and restore every logger's level."""
    handlers = list(logging.root.handlers)
    loggers = [logging.root, *(logging.getLogger(name) for name in logging.root.manager.loggerDict)]
    levels = [logger.level for logger in loggers]
    try:
        yield
    finally:
        for handler in [handler for handler in logging.root.handlers if handler not in handlers]:
            logging.root.removeHandler(handler)
            handler.close()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _warnings_to_log() -> Iterator[None]:
    """Log third-party warnings, as that about pinned memory without an accelerator, instead of showing them."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(True)
        try:
            yield
        finally:
            logging.captureWarnings(False)
