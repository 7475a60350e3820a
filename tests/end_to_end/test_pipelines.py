"""docs/pipelines.md and docs/curl.md are true: the files on the page run, against a service with a worker."""

import json
import os
import re
import subprocess
import sys
import tarfile
import types
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coreset.client import Client
from coreset.errors import NotFound
from coreset.local.stack import LocalStack
from coreset.schemas.job import Job, JobStatus
from coreset.uids import from_subset
from demo.transcript import SESSION, job_spec, play, read_session
from tests.conftest import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DOCS = Path(__file__).parents[2] / "docs"
BIN = Path(sys.executable).parent


def file_of(name: str) -> str:
    """The page's file of this name: the code block whose first line says it."""
    blocks = re.findall(r"```\w+\n(# .*?\n.*?)```", (DOCS / "pipelines.md").read_text(), re.DOTALL)
    (found,) = [block for block in blocks if re.split(r"[\s:]", block)[1] == name]
    return found


@pytest.fixture
def folder(tmp_path: Path, spec: dict[str, Any]) -> Path:
    (tmp_path / "job.json").write_text(json.dumps(spec))
    return tmp_path


def run(folder: Path, url: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CORESET_URL": url, "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def job(client: Client, spec: dict[str, Any]) -> Job:
    return client.wait(client.submit(spec).id, timeout=250)


def test_curl_and_jq(folder: Path, stack: LocalStack, job: Job, client: Client) -> None:
    (folder / "pipeline.sh").write_text(file_of("pipeline.sh"))
    answer = run(folder, stack.url, "bash", "pipeline.sh", "job.json", "nightly-curl", "subset.npy")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr.splitlines()[-1] == "succeeded 6/6"
    manifest = client.result(job.id)
    reported = json.loads(answer.stdout)
    assert (reported["read"], reported["bad"]) == (manifest.read, manifest.bad)
    assert len(np.load(folder / "subset.npy")) == round(0.2 * manifest.scored)
    (folder / "job.json").write_text("{}")
    refused = run(folder, stack.url, "bash", "pipeline.sh", "job.json", "another", "subset.npy")
    assert refused.returncode != 0


def test_python(folder: Path, stack: LocalStack, job: Job) -> None:
    (folder / "pipeline.py").write_text(file_of("pipeline.py"))
    answer = run(folder, stack.url, sys.executable, "pipeline.py", "job.json", "nightly-python")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["rows"] == job.progress.samples.read
    assert len(np.load(folder / "subset.npy")) == 30
    (folder / "job.json").write_text("{}")
    refused = run(folder, stack.url, sys.executable, "pipeline.py", "job.json", "other")
    assert refused.returncode == 1
    assert refused.stderr.startswith("invalid-spec: ")


def test_make(folder: Path, stack: LocalStack) -> None:
    (folder / "Makefile").write_text(file_of("Makefile"))
    made = run(folder, stack.url, "make", "-j2", "subset.npy", "report.html")
    assert made.returncode == 0, made.stderr
    assert len(np.load(folder / "subset.npy")) > 0
    assert "<html" in (folder / "report.html").read_text()
    assert "up to date" in run(folder, stack.url, "make", "subset.npy").stdout
    (folder / "job.json").write_text('{"pool": {}}')
    os.utime(folder / "job.json", (2e9, 2e9))
    assert run(folder, stack.url, "make", "subset.npy").returncode == 2
    assert not (folder / "job.id").exists()


def test_scores_come_from_the_service_where_the_parts_are_out_of_reach(
    client: Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = ["uid", "status", "diffin", "clip_score"]
    read = client.scores(job.id, columns)
    monkeypatch.setattr("coreset.client.scores.from_parts", lambda parts, columns: None)
    assert client.scores(job.id, columns).to_pylist() == read.to_pylist()
    assert len(read) == job.progress.samples.read


class Fails(Exception):
    pass


class Sensor:
    """What Airflow's BaseSensorOperator is for a sensor's own code: keyword options, and a log."""

    def __init__(self, *, task_id: str, mode: str, poke_interval: float) -> None:
        self.task_id, self.mode, self.poke_interval = task_id, mode, poke_interval
        self.log = types.SimpleNamespace(warning=lambda *words: None)


class Poked:
    def __init__(self, is_done: bool, xcom_value: Any = None) -> None:
        self.is_done, self.xcom_value = is_done, xcom_value


def test_the_airflow_sensor(
    monkeypatch: pytest.MonkeyPatch, stack: LocalStack, client: Client, spec: dict[str, Any], job: Job
) -> None:
    """Its own logic, against the contract above; with Airflow itself it is tried by hand (see the page)."""
    sdk = types.SimpleNamespace(BaseSensorOperator=Sensor, PokeReturnValue=Poked)
    monkeypatch.setitem(sys.modules, "airflow.sdk", sdk)
    monkeypatch.setitem(sys.modules, "airflow.sdk.exceptions", types.SimpleNamespace(AirflowFailException=Fails))
    page: dict[str, Any] = {}
    exec(file_of("coreset_airflow.py"), page)
    assert page["submit"](spec, "run-1", stack.url) == page["submit"](spec, "run-1", stack.url)

    def sensor(job_id: str, url: str = stack.url) -> Any:
        return page["CoresetSensor"](task_id="t", job_id=job_id, url=url)

    done = sensor(job.id).poke({})
    assert done.is_done
    assert Path(done.xcom_value["subset.npy"]).is_file()
    assert sensor(job.id).mode == "reschedule"
    with pytest.raises(NotFound):
        sensor("nobody").poke({})
    page["Client"] = lambda url, patience: Client(url, patience=0)
    assert not sensor(job.id, "http://127.0.0.1:1").poke({}).is_done
    page["Client"] = lambda url, patience: Given(job.model_copy(update={"status": JobStatus.SCORING}))
    assert not sensor(job.id).poke({}).is_done
    page["Client"] = lambda url, patience: Given(job.model_copy(update={"status": JobStatus.FAILED}))
    with pytest.raises(Fails, match="failed"):
        sensor(job.id).poke({})


class Given:
    """A service that knows one job."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __enter__(self) -> "Given":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def get(self, _: str) -> Job:
        return self.job


SPY = """
import json

import open_clip

from coreset import train

open_clip.add_model_config("tiny.json")
keep = train.keep


def spied(*arguments):
    stage = keep(*arguments)

    def counted(samples):
        for sample in stage(samples):
            print("FED", json.loads(sample["json"])["uid"])
            yield sample

    return counted


train.keep = spied
train.main()
"""


def test_open_clip_trains_on_the_coreset_from_the_original_shards(
    folder: Path, stack: LocalStack, client: Client, job: Job, tiny_pool: Path
) -> None:
    """open_clip's own trainer, for an epoch: it is fed every sample of the coreset, and no other."""
    selection = client.select(job.id, {"k": 64, "by": {"clip_score": 1}})
    (folder / "subset.npy").write_bytes(client.download(job.id, selection.id, "subset.npy"))
    (folder / "tiny.json").write_text(json.dumps(TINY_MODEL))
    (folder / "spied.py").write_text(SPY)
    (folder / "train.sh").write_text(file_of("train.sh").replace("-m coreset.train", "spied.py"))
    options = "--model tiny --device cpu --precision fp32 --epochs 1 --batch-size 16 --workers 0 --save-frequency 1"
    shards = str(tiny_pool / "{000000..000005}.tar")
    where = ("--logs", str(folder / "logs"), "--name", "subset")
    trained = run(folder, stack.url, "bash", "train.sh", "subset.npy", shards, "64", *options.split(), *where)
    assert trained.returncode == 0, trained.stderr[-2000:]
    fed = re.findall(r"^FED (\w+)$", trained.stdout, re.MULTILINE)
    assert Counter(fed) == Counter(from_subset(np.load(folder / "subset.npy")))
    assert (folder / "logs/subset/checkpoints/epoch_1.pt").is_file()
    (folder / "loader.py").write_text(file_of("loader.py"))
    read = run(folder, stack.url, "python", "loader.py", "subset.npy", shards)
    assert read.stdout.split() == ["64"], read.stderr[-2000:]


def members(shards: list[Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for shard in shards:
        with tarfile.open(shard) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}
    return found


def resharded(subset: np.ndarray, shards: list[Path]) -> dict[str, bytes]:
    """What DataComp's resharder makes of a subset file: each sample as often as its uid is there, named by its uid."""
    assert subset.dtype == np.dtype("u8,u8")
    assert subset.tolist() == sorted(subset.tolist())
    copies, made = Counter(subset.tolist()), dict[str, bytes]()
    for shard in shards:
        pool = members([shard])
        for name in filter(lambda name: name.endswith(".json"), pool):
            uid = json.loads(pool[name])["uid"]
            count = copies[int(uid[:16], 16), int(uid[16:32], 16)]
            keys = [uid] if count == 1 else [f"{uid}-{copy}" for copy in range(count)]
            of_sample = {n: data for n, data in pool.items() if n.split(".")[0] == name.split(".")[0]}
            made |= {f"{key}.{n.split('.', 1)[1]}": data for key in keys for n, data in of_sample.items()}
    return made


def test_datacomp_reads_the_subset_file_and_the_shards(client: Client, spec: dict[str, Any], tiny_pool: Path) -> None:
    """By the resharder's logic the subset file gives the very members that `write_shards` has written."""
    draw = {"temperature": 0.3, "max_repeats": 3, "seed": 1}
    select = {"k": 90, "by": {"clip_score": 1}, "sampling": draw, "write_shards": True}
    job = client.wait(client.submit({**spec, "select": select}).id, timeout=250)
    selection = client.result(job.id).selection
    assert selection.repeated > 0
    subset = np.load(selection.files["subset.npy"].uri)
    written = Path(selection.files["shards/meta.json"].uri).parent
    meta = json.loads((written / "meta.json").read_text())
    shards = [written / meta["output_shard_format"].format(i) for i in range(meta["output_shard_count"])]
    assert members(shards) == resharded(subset, sorted(tiny_pool.glob("*.tar")))
    sizes = json.loads((written / "sizes.json").read_text())
    stats = {s.name: json.loads(s.with_name(f"{s.stem}_stats.json").read_text())["successes"] for s in shards}
    assert sizes == stats
    assert sum(sizes.values()) == meta["output_count"] == len(np.load(written / "sample_ids.npy")) == 90


def test_the_curl_page_is_what_its_script_does(
    folder: Path, stack: LocalStack, job: Job, tiny_pool: Path, tiny_run: Path
) -> None:
    """`job` keeps the scores when the session deletes its own job."""
    (folder / "job.json").write_text(json.dumps(job_spec(tiny_pool, tiny_run), indent=2))
    page = (DOCS / "curl.md").read_text()
    shown = re.findall(r"\n\n([^\n]+)\n\n```console\n(.*?)\n```", page, re.DOTALL)
    for (purpose, console), step in zip(shown, play(read_session(SESSION.read_text()), stack.url, folder), strict=True):
        assert purpose == step.purpose
        commands = "\n".join(f"$ {line}" for line in step.commands.splitlines())
        assert console.startswith(commands)
        assert shape(console.removeprefix(commands)) == shape(step.output), step.purpose


def shape(output: str) -> list[str]:
    """The lines, without what is another each time: numbers, ids and paths; and cut, as the page's are."""
    changing = r'"/[^"]*"|[\w/{}.:-]*\d[\w/{}.:-]*'
    return [re.sub(changing, "#", line)[:60] for line in output.strip().splitlines()]
