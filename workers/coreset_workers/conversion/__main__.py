"""`python -m coreset_workers.conversion SHARDS... --out DIR`: what `coreset convert` starts."""

import argparse
import sys

from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress

from coreset.access.locations import Locations
from coreset.cli.output import INTERRUPTED, INVALID, print_error, print_json
from coreset.errors import CoresetError, InvalidSpec
from coreset.settings import WorkerSettings
from coreset.spec.pool import PoolSpec
from coreset.storage.storage import Storage
from coreset_workers.conversion.convert import Converted, convert
from coreset_workers.data import opening as files
from coreset_workers.data.oddities import warnings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m coreset_workers.conversion")
    parser.add_argument("shards", nargs="+", help="as `pool.shards` of a job spec")
    parser.add_argument("--out", required=True, help="folder or URI of the WebDataset shards")
    parser.add_argument("--caption-field")
    parser.add_argument("--image-field")
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args()
    console = Console(stderr=True)
    try:
        pool = _pool(options)
        files.allow(Locations.parse(WorkerSettings().allowed_uris))
        with Progress(console=console) as bar:
            task = bar.add_task("converting", total=1.0)
            done = convert(pool, Storage(options.out), lambda share: bar.update(task, completed=share))
            bar.update(task, completed=1.0)
    except CoresetError as error:
        print_error(error)
        sys.exit(INVALID)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if options.json:
        print_json(done)
        return
    for warning in [*(f"{shard}: {damage}" for shard, damage in done.damaged.items()), *warnings(done.oddities)]:
        console.print("[yellow]warning:[/yellow]", warning, highlight=False, soft_wrap=True)
    Console().print(words(done), highlight=False, soft_wrap=True)


def _pool(options: argparse.Namespace) -> PoolSpec:
    """Return the pool that the options name. Raises InvalidSpec."""
    try:
        return PoolSpec(shards=options.shards, caption_field=options.caption_field, image_field=options.image_field)
    except ValidationError as error:
        raise InvalidSpec(error.errors()[0]["msg"].removeprefix("Value error, ")) from error


def words(done: Converted) -> str:
    """Return what was done in one sentence."""
    before = f", {done.written_before:,} of them by an earlier run" if done.written_before else ""
    without = f", {done.without_image:,} of them without an image" if done.without_image else ""
    return f"{done.samples:,} samples{without} in {done.shards:,} shards{before}: {done.out}"


if __name__ == "__main__":
    main()
