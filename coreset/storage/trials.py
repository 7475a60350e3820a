"""Files of an evaluation: its trials, their outcomes and their failures."""

from coreset.errors import DamagedFile, NotFound
from coreset.schemas.evaluation import TrialOutcome
from coreset.schemas.trials import ProxyPlan, Setup, Trial, Trials
from coreset.storage.layout import JobFolder, PlanFolder
from coreset.storage.storage import Storage
from coreset.storage.verified import load_json, write_json


def load_outcome(storage: Storage, setup: Setup, trial: Trial) -> TrialOutcome | None:
    """Return the outcome of a trial, or None if it has none yet, or a damaged one."""
    try:
        return load_json(storage, _outcome_path(setup, trial), TrialOutcome.model_validate_json)
    except (NotFound, DamagedFile):
        return None


def save_outcome(storage: Storage, setup: Setup, trial: Trial, outcome: TrialOutcome) -> None:
    """Write the outcome of a trial, for every job that asks for the same trial of this plan."""
    write_json(storage, _outcome_path(setup, trial), outcome.model_dump_json(indent=2))


def load_failure(storage: Storage, job_id: str, index: int) -> str:
    """Return why a trial of the job has no outcome."""
    try:
        return storage.read(JobFolder(job_id).trial_failure(index)).decode()
    except NotFound:
        return "it left no outcome; the workers' logs say why"


def save_failure(storage: Storage, job_id: str, index: int, message: str) -> None:
    """Write why a trial of the job has no outcome. Another job tries the same trial again."""
    storage.write(JobFolder(job_id).trial_failure(index), message.encode())


def load_trials(storage: Storage, job_id: str) -> Trials:
    """Return the trials of a job. Raises NotFound and DamagedFile."""
    return load_json(storage, JobFolder(job_id).trials, Trials.model_validate_json)


def save_trials(storage: Storage, job_id: str, trials: Trials) -> None:
    """Write the trials of a job."""
    write_json(storage, JobFolder(job_id).trials, trials.model_dump_json(indent=2))


def load_proxy_plan(storage: Storage, job_id: str) -> ProxyPlan:
    """Return what a job's evaluation was planned with. Raises NotFound and DamagedFile."""
    return load_json(storage, JobFolder(job_id).proxies, ProxyPlan.model_validate_json)


def save_proxy_plan(storage: Storage, job_id: str, proxies: ProxyPlan) -> None:
    """Write what a job's evaluation was planned with."""
    write_json(storage, JobFolder(job_id).proxies, proxies.model_dump_json(indent=2))


def _outcome_path(setup: Setup, trial: Trial) -> str:
    return PlanFolder(setup.plan_id).trial(trial.key(setup))
