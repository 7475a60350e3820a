"""Links of a job."""

from coreset.redaction import redact_model
from coreset.schemas.job import TERMINAL, Job, JobStatus


def with_links(job: Job) -> Job:
    """Return the job with the links that its state allows, and without the secrets of its spec's URIs."""
    base = f"/v1/jobs/{job.id}"
    links = {"self": base, "events": f"{base}/events", "page": f"/jobs/{job.id}"}
    if job.status not in TERMINAL:
        links["cancel"] = f"{base}/cancel"
    if job.status is JobStatus.SUCCEEDED:
        links |= {name: f"{base}/{name}" for name in ("result", "report", "selections", "scores")}
        links |= {"evaluation": f"{base}/evaluation"} if job.spec.evaluate else {}
    return redact_model(job).model_copy(update={"links": links})
