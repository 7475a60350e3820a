"""`python -m coreset_workers.local JOB.JSON --out DIR`, what `coreset score` becomes; same exit codes."""

import argparse
import os
import sys

from coreset.cli.output import INTERRUPTED, INVALID, JOB_FAILED, print_error, print_json
from coreset.cli.progress_bars import job_progress
from coreset.cli.spec_files import read_spec
from coreset.cli.tables import show_result, show_rows
from coreset.client import validate_spec
from coreset.errors import CoresetError
from coreset.logs import configure
from coreset.schemas.manifest import Manifest
from coreset.settings import WorkerSettings
from coreset.spec.job import JobSpec
from coreset.storage.storage import Storage


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m coreset_workers.local", description="Run a job here, without a service."
    )
    parser.add_argument("job_file", metavar="JOB.JSON", help="the job spec; - reads stdin")
    parser.add_argument("--out", required=True, help="folder or URI of the results")
    parser.add_argument("--json", action="store_true", help="print the manifest")
    options = parser.parse_args()
    configure("console", "warning")  # stdout is for the result, and lines of progress would break the bars
    # For loader processes, whose own words would break the bars.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    try:
        spec = validate_spec(read_spec(options.job_file))
    except CoresetError as error:
        sys.exit(_failed(error, INVALID))
    try:
        manifest = _run(spec, options.out)
    except CoresetError as error:
        sys.exit(_failed(error, JOB_FAILED))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    if options.json:
        print_json(manifest)
    else:
        show_rows({"job": manifest.job_id})
        show_result(manifest)


def _run(spec: JobSpec, out: str) -> Manifest:
    with job_progress() as show:
        from coreset_workers.local.job import run_job  # late: torch takes seconds, and a wrong spec is reported before

        settings = WorkerSettings()
        return run_job(spec, Storage(out), show, settings.loader_processes, settings.max_training_samples)


def _failed(error: CoresetError, code: int) -> int:
    print_error(error)
    return code


if __name__ == "__main__":
    main()
