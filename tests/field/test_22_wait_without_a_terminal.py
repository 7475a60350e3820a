"""Issue 18, point 22: `--wait` prints lines of progress where there is no terminal."""

import threading

import pytest

from coreset.cli import progress_bars
from coreset.cli.progress_bars import job_lines
from coreset.schemas.job import Job, JobStatus
from coreset_service.api_docs.examples import JOB


class Lines:
    """Counts the lines that are printed, so that a test waits for a number and not for a time."""

    def __init__(self) -> None:
        self.printed: list[Job] = []
        self.changed = threading.Condition()

    def add(self, job: Job) -> None:
        with self.changed:
            self.printed.append(job)
            self.changed.notify_all()

    def wait_for(self, number: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.printed) >= number, timeout=30)


def test_a_line_comes_at_each_change_of_state_alone(capsys: pytest.CaptureFixture[str]) -> None:
    job = Job.model_validate(JOB)
    further = job.model_copy(update={"progress": job.progress.model_copy(update={"fraction": 0.7})})
    with job_lines() as update:
        for state in (job, further, job.model_copy(update={"status": JobStatus.SUCCEEDED})):
            update(state)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "scoring 51% scoring shards" in lines[0]
    assert "succeeded" in lines[1]


def test_a_state_that_lasts_is_repeated_until_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    monkeypatch.setattr(progress_bars, "_print_line", lines.add)
    job = Job.model_validate(JOB)
    with job_lines(seconds=0.001) as update:
        update(job)
        lines.wait_for(3)
        update(job.model_copy(update={"status": JobStatus.SUCCEEDED}))
    assert [line.status for line in lines.printed].count(JobStatus.SUCCEEDED) == 1
