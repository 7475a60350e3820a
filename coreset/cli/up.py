"""`coreset up`: Redis, service and workers on this machine, until Ctrl-C."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from coreset.cli.options import AsJson
from coreset.cli.output import err, error_reporting, out
from coreset.entry_points import module_command
from coreset.errors import needs_extra

if TYPE_CHECKING:
    from coreset.local.stack import LocalStack
    from coreset.settings import StackSettings


@dataclass(frozen=True)
class UpContext:
    """Environment of the process, which the entry point alone reads.

    Attributes:
        settings: reads the CORESET_* variables; called by `coreset up` alone, since it needs the `engine` extra.
    """

    settings: "Callable[[], StackSettings]"
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


def become(context: typer.Context, module: str, *arguments: str) -> NoReturn:
    """Run one of the workers' modules in the place of this process, so that a signal to the command reaches it."""
    command = module_command(module, *arguments)
    os.execve(command[0], command, computing_environment(context))


def computing_environment(context: typer.Context) -> dict[str, str]:
    """Return the environment of a process that computes: its waiting threads sleep, and leave cores to others.

    It must be set before torch is imported.
    """
    chosen: UpContext = context.obj
    return {"OMP_WAIT_POLICY": "PASSIVE", **chosen.environment}


def up(
    context: typer.Context,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port of the service; 0 takes a free one")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="number of workers; default: one per GPU, else one on the CPU")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder of the results, Redis's files and the logs")] = None,
    as_json: AsJson = False,
) -> None:
    """Start Redis (unless CORESET_REDIS_URL is set), the service and workers; restart what dies, until Ctrl-C.

    With --json one line of JSON is printed when all of them are ready.
    """
    chosen: UpContext = context.obj
    with error_reporting(), needs_extra("engine", "coreset up"):
        from coreset.local.stack import LocalStack

        settings = chosen.settings()
    stack = LocalStack(
        data=data or settings.data,
        environment=chosen.environment,
        port=settings.port if port is None else port,
        workers=workers,
        redis_url=settings.redis_url,
        storage=settings.storage,
    )
    signal.signal(signal.SIGTERM, _as_interrupt)
    with error_reporting():
        try:
            stack.start()
            stack.wait_for_workers()
            _print_parts(stack, as_json)
            stack.wait()
        except KeyboardInterrupt:
            (err if as_json else out).print("stopping; running tasks have a few seconds to end")
        finally:
            stack.stop()


def _print_parts(stack: "LocalStack", as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"url": stack.url, **stack.parts()}))
    else:
        out.print(f"coreset is up: {stack.url}", highlight=False, soft_wrap=True)
        out.print(f"{stack.describe()}. Ctrl-C stops it.", highlight=False, soft_wrap=True)
    sys.stdout.flush()


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
