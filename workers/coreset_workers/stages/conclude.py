"""The end of an evaluation: what all proxies measured, in one file, in the report, and named in the manifest."""

from datetime import UTC, datetime

from coreset.browsing.evaluated_cuts import evaluate_cuts
from coreset.redaction import redact_model
from coreset.schemas.evaluation import Cut, Evaluation, FailedTrial, Measured, TrialOutcome
from coreset.schemas.manifest import Manifest
from coreset.schemas.summary import Summary
from coreset.schemas.trials import Trials
from coreset.storage.layout import JobFolder, load_manifest
from coreset.storage.storage import Storage
from coreset.storage.trials import load_failure, load_outcome, load_trials
from coreset.storage.verified import load_json, write_json
from coreset_workers.outputs.report import write_report

NAMED_AT_MOST = 3


def conclude_job(storage: Storage, job_id: str) -> tuple[Manifest, Evaluation]:
    """Write jobs/{id}/evaluation.json, and rewrite the report and the manifest. May run twice."""
    trials = load_trials(storage, job_id)
    manifest = load_manifest(storage, job_id)
    evaluation = redact_model(_evaluation(storage, job_id, trials))
    file = storage.write(JobFolder(job_id).evaluation, evaluation.model_dump_json(indent=2).encode())
    summary = load_json(storage, JobFolder(job_id).summary, Summary.model_validate_json)
    warnings = [*manifest.warnings, *(text for text in evaluation.warnings if text not in manifest.warnings)]
    manifest = manifest.model_copy(update={"evaluation": file, "warnings": warnings})
    manifest = manifest.model_copy(update={"report": write_report(storage, manifest, summary, evaluation)})
    write_json(storage, JobFolder(job_id).manifest, manifest.model_dump_json(indent=2))
    return manifest, evaluation


def _evaluation(storage: Storage, job_id: str, trials: Trials) -> Evaluation:
    setup = trials.setup
    outcomes = {trial.key(setup): load_outcome(storage, setup, trial) for trial in trials.all}
    places = {key: index for index, key in enumerate(outcomes)}
    found: dict[tuple[Cut, int], TrialOutcome] = {}
    failed: list[FailedTrial] = []
    for cut, seed in ((cut, seed) for cut in trials.cuts for seed in range(trials.seeds)):
        key = trials.trial(cut, seed).key(setup)
        outcome = outcomes[key]
        if outcome is not None:
            found[cut, seed] = outcome
            continue
        message = load_failure(storage, job_id, places[key])
        failed.append(FailedTrial(selection=cut.selection, fraction=cut.fraction, seed=seed, message=message))
    done = [outcome for outcome in outcomes.values() if outcome is not None]
    known = max((outcome.known for outcome in done), default=0)
    return Evaluation(
        job_id=job_id,
        plan_id=setup.plan_id,
        measured=_measured(done),
        rules=trials.rules,
        cuts=evaluate_cuts(trials.cuts, found),
        seeds=trials.seeds,
        samples_seen=setup.samples_seen,
        batch_size=setup.batch_size,
        lr=setup.lr,
        model=setup.world.model,
        pool_samples=trials.pool_samples,
        test_samples=max((outcome.tested for outcome in done), default=0),
        test_samples_in_pool=known,
        failed=failed,
        warnings=_doubts(failed, len(trials.cuts) * trials.seeds, known),
        seconds=round(sum(outcome.seconds for outcome in done), 3),
        devices=sorted({outcome.device for outcome in done}),
        created_at=datetime.now(UTC),
    )


def _measured(outcomes: list[TrialOutcome]) -> Measured | None:
    if not outcomes:
        return None
    return "recall" if outcomes[0].quality.accuracy is None else "accuracy"


def _doubts(failed: list[FailedTrial], wanted: int, known: int) -> list[str]:
    said: list[str] = []
    if failed:
        messages = list(dict.fromkeys(trial.message for trial in failed))
        more = f"; and {len(messages) - NAMED_AT_MOST} other reasons" if len(messages) > NAMED_AT_MOST else ""
        reasons = "; ".join(messages[:NAMED_AT_MOST]) + more
        said.append(f"evaluation: {len(failed)} of {wanted} proxies could not be trained: {reasons}")
    if known:
        said.append(f"evaluation: {known:,} samples of the test are in the pool too, and were left out of the test")
    return said
