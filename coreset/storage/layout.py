"""Every path below the storage root, and the files that more than one room loads.

plans/{plan_id}/plan.json             the plan
plans/{plan_id}/prepared/             reference batch, directions, step sizes; ready.json is written last
plans/{plan_id}/parts/                per shard a Parquet file of scores, and its summary, written after it
plans/{plan_id}/thumbnails/           per shard a Parquet file, if the spec wants thumbnails
plans/{plan_id}/kept/                 per shard and kind a Parquet file, if the spec asks to keep it
plans/{plan_id}/trials/               outcomes of trials by content key
plans/{plan_id}/jobs/                 per job that uses the plan an empty file
runs/{run_id}/                        a run that jobs trained: params.txt, checkpoints/; run.json is written last
runs/{run_id}/work/                   state of a training that has not ended
runs/{run_id}/jobs/                   per job that uses the run an empty file
jobs/{job_id}/training.json           what the job's run is trained with
jobs/{job_id}/plan.json               the plan's id and the options that are no part of the plan
jobs/{job_id}/merges/                 counts of merged shards by level and index
jobs/{job_id}/manifest.json           the result; also summary.json, report.html, evaluation.json
jobs/{job_id}/proxies.json            what the evaluation was planned with; also trials.json, trials/
jobs/{job_id}/selections/{id}/        subset.npy, subset.parquet, selection.json, shards/
"""

from typing import NamedTuple

from coreset.schemas.manifest import Manifest
from coreset.schemas.plan import Plan
from coreset.storage.storage import Storage
from coreset.storage.verified import damaged, load_json

RUNS = "runs"
"""Folder of the runs that jobs trained."""


def part_name(shard: int) -> str:
    """Return the file name of a shard's part, in the plan's folder of parts."""
    return f"{shard:06d}.parquet"


def summary_name(shard: int) -> str:
    """Return the file name of the summary beside a part; written last, it says that the part is complete."""
    return f"{shard:06d}.json"


def shard_of(part: str) -> int:
    """Return the shard's index from the path or URI of its part."""
    return int(part.rsplit("/", 1)[-1].split(".")[0])


class PlanFolder(NamedTuple):
    """Paths of one plan."""

    plan_id: str

    @property
    def root(self) -> str:
        return f"plans/{self.plan_id}"

    @property
    def plan(self) -> str:
        return f"{self.root}/plan.json"

    @property
    def parts(self) -> str:
        return f"{self.root}/parts"

    def part(self, shard: int) -> str:
        return f"{self.parts}/{part_name(shard)}"

    def summary(self, shard: int) -> str:
        return f"{self.parts}/{summary_name(shard)}"

    def thumbnails(self, shard: int) -> str:
        return f"{self.root}/thumbnails/{part_name(shard)}"

    @property
    def kept_files(self) -> str:
        return f"{self.root}/kept"

    def kept(self, shard: int, kind: str) -> str:
        return f"{self.kept_files}/{shard:06d}.{kind}.parquet"

    def prepared(self, name: str) -> str:
        """Return the path of a file that preparing writes."""
        return f"{self.root}/prepared/{name}"

    @property
    def preparation(self) -> str:
        return self.prepared("ready.json")

    def prepared_tensors(self, name: str) -> str:
        return self.prepared(f"{name}.safetensors")

    def prepared_checkpoint(self, index: int) -> str:
        return self.prepared_tensors(f"{index:03d}")

    def prepared_stencil(self, index: int) -> str:
        return self.prepared(f"{index:03d}.json")

    @property
    def target_clusters(self) -> str:
        return self.prepared("target_clusters.json")

    def trial(self, key: str) -> str:
        return f"{self.root}/trials/{key}.json"

    @property
    def references(self) -> str:
        return f"{self.root}/jobs"

    def reference(self, job_id: str) -> str:
        return f"{self.references}/{job_id}"


class RunFolder(NamedTuple):
    """Paths of one run that jobs trained, in the layout of open_clip's trainer."""

    run_id: str

    @property
    def root(self) -> str:
        return f"{RUNS}/{self.run_id}"

    @property
    def params(self) -> str:
        return f"{self.root}/params.txt"

    @property
    def architecture(self) -> str:
        return f"{self.root}/open_clip_config.json"

    def checkpoint(self, epoch: int) -> str:
        return f"{self.root}/checkpoints/epoch_{epoch}.pt"

    @property
    def outcome(self) -> str:
        """Return the path of the file that says that the run is complete."""
        return f"{self.root}/run.json"

    @property
    def work(self) -> str:
        return f"{self.root}/work"

    @property
    def progress(self) -> str:
        return f"{self.work}/progress.json"

    def state(self, interval: int) -> str:
        """Return the path of the training's state after an interval."""
        return f"{self.work}/{interval:06d}.pt"

    @property
    def references(self) -> str:
        return f"{self.root}/jobs"

    def reference(self, job_id: str) -> str:
        return f"{self.references}/{job_id}"


class JobFolder(NamedTuple):
    """Paths of one job."""

    job_id: str

    @property
    def root(self) -> str:
        return f"jobs/{self.job_id}"

    @property
    def plan(self) -> str:
        return f"{self.root}/plan.json"

    @property
    def training(self) -> str:
        return f"{self.root}/training.json"

    def merge(self, level: int, index: int) -> str:
        return f"{self.root}/merges/{level}-{index:05d}.json"

    @property
    def manifest(self) -> str:
        return f"{self.root}/manifest.json"

    @property
    def summary(self) -> str:
        return f"{self.root}/summary.json"

    @property
    def report(self) -> str:
        return f"{self.root}/report.html"

    @property
    def evaluation(self) -> str:
        return f"{self.root}/evaluation.json"

    @property
    def proxies(self) -> str:
        return f"{self.root}/proxies.json"

    @property
    def trials(self) -> str:
        return f"{self.root}/trials.json"

    def trial_failure(self, index: int) -> str:
        return f"{self.root}/trials/{index:05d}.txt"

    @property
    def selections(self) -> str:
        return f"{self.root}/selections"

    def selection(self, selection_id: str) -> "SelectionFolder":
        return SelectionFolder(f"{self.selections}/{selection_id}")


class SelectionFolder(NamedTuple):
    """Paths of one selection."""

    root: str

    @property
    def selection(self) -> str:
        return self.file("selection.json")

    @property
    def subset(self) -> str:
        return self.file("subset.parquet")

    @property
    def uids(self) -> str:
        return self.file("subset.npy")

    def file(self, name: str) -> str:
        """Return the path of one of its files, `shards/...` too."""
        return f"{self.root}/{name}"


def load_plan(storage: Storage, plan_id: str) -> Plan:
    """Return a plan; its id is a hash of all that it says. Raises NotFound and DamagedFile."""
    name = PlanFolder(plan_id).plan
    plan = load_json(storage, name, Plan.from_json)
    if plan.id != plan_id:
        raise damaged(name, "its content has another id")
    return plan


def load_manifest(storage: Storage, job_id: str) -> Manifest:
    """Return a job's manifest. Raises NotFound before the job has succeeded, and DamagedFile."""
    return load_json(storage, JobFolder(job_id).manifest, Manifest.model_validate_json)


def load_result(storage: Storage, job_id: str) -> tuple[Manifest, Plan]:
    """Return a job's manifest and its plan. Raises NotFound before the job has succeeded."""
    manifest = load_manifest(storage, job_id)
    return manifest, load_plan(storage, manifest.plan_id)
