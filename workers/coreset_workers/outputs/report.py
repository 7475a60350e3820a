"""report.html: one self-contained file with the pictures of the service's page, and what was measured.

Its charts are drawn in the browser by the page's own scripts from the job's summary, so the file has the same size for
every pool. Captions are hostile text: no script runs but the one whose hash the file's own policy names.
"""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from coreset import web
from coreset.schemas.evaluation import Evaluation
from coreset.schemas.manifest import File, Manifest
from coreset.schemas.summary import Summary
from coreset.selection.agreement import DIFFIN_WITH_CLIP_SCORE
from coreset.spec.job_words import describe_job
from coreset.spec.rule_words import describe_rule
from coreset.spec.scores import SCORES
from coreset.storage.layout import JobFolder
from coreset.storage.storage import Storage

SCRIPTS = ("charts.js", "samples.js", "result.js", "evaluation.js")
SHOW = """
const stored = (name) => JSON.parse(document.getElementById(name).textContent);
showResult(document.getElementById("result"), stored("summary"));
showEvaluation(document.getElementById("evaluation"), stored("evaluated"));
"""

LABELS = {score.value: info.label for score, info in SCORES.items()} | {
    DIFFIN_WITH_CLIP_SCORE: "Diff-In + CLIP score, ranks"
}
_environment = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True, undefined=StrictUndefined
)


def write_report(storage: Storage, manifest: Manifest, summary: Summary, evaluation: Evaluation | None = None) -> File:
    """Write jobs/{id}/report.html, with the evaluation if there is one."""
    style = (web.FOLDER / "page.css").read_text()
    script = "\n".join([*((web.FOLDER / name).read_text() for name in SCRIPTS), SHOW])
    page = _environment.get_template("report.html").render(
        manifest=manifest,
        labels=LABELS,
        facts=describe_job(manifest.spec),
        rule=describe_rule(manifest.selection.spec),
        scores=SCORES,
        summary=summary.model_dump(mode="json"),
        evaluation=evaluation.model_dump(mode="json") if evaluation else None,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:",
    )
    return storage.write(JobFolder(manifest.job_id).report, page.encode())


def _hash(text: str) -> str:
    """Return the source expression of a Content-Security-Policy for an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
