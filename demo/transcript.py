"""`python -m demo.transcript > docs/curl.md`: a whole pipeline by curl only, run for real, with the answers.

The commands are those of curl_session.sh: a comment says what a step is for, a blank line ends it. They run in one
shell, against a service of their own, on a small drawn pool and a training run on it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coreset.local.stack import LocalStack
from demo.pool import write_pool

SESSION = Path(__file__).with_name("curl_session.sh")
SAMPLES, SHARDS = 300, 6
WIDTH = 200
HEAD = """# A pipeline by curl only

Made by `python -m demo.transcript`, which runs these commands against a service with one worker, on a drawn pool of \
300 samples; long lines are cut. `$CORESET` is the service's address, for example http://127.0.0.1:8000; with an API \
key each call also has `-H "Authorization: Bearer $KEY"`. `--json` needs curl 7.82, `%header{...}` 7.84.
"""


@dataclass(frozen=True)
class Step:
    """What the step is for, its commands, and what they print."""

    purpose: str
    commands: str
    output: str = ""


def read_session(text: str) -> list[Step]:
    """Return the steps of a session file, without output."""
    steps = [block.split("\n", 1) for block in text.strip().split("\n\n")]
    return [Step(purpose.removeprefix("# "), commands.strip()) for purpose, commands in steps]


def play(steps: list[Step], url: str, folder: Path) -> list[Step]:
    """Run the steps one after another in one shell, in the folder; return them with what they printed."""
    mark = "@@ step @@"
    script = "".join(f"echo '{mark}'\n{step.commands}\necho\n" for step in steps)
    environment = {**os.environ, "CORESET": url}
    played = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    outputs = played.stdout.split(f"{mark}\n")[1:]
    return [Step(s.purpose, s.commands, output.strip()) for s, output in zip(steps, outputs, strict=True)]


def render(steps: list[Step]) -> str:
    """Return the page."""
    return HEAD + "".join(
        f"\n{step.purpose}\n\n```console\n{_prompted(step.commands)}\n{_cut(step.output)}\n```\n" for step in steps
    )


def _prompted(commands: str) -> str:
    return "\n".join(f"$ {line}" for line in commands.splitlines())


def _cut(output: str) -> str:
    return "\n".join(line if len(line) <= WIDTH else f"{line[:WIDTH]} ..." for line in output.splitlines())


def job_spec(pool: Path, run: Path) -> dict[str, Any]:
    return {
        "pool": {"shards": [f"{pool}/{{000000..{SHARDS - 1:06d}}}.tar"]},
        "checkpoints": {"run": str(run)},
        "reference": {"size": 24},
        "select": {"k": 60},
    }


def main() -> None:
    from demo.train import Training, train  # imports torch: seconds

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pool(folder / "pool", samples=SAMPLES, shards=SHARDS)
        with redirect_stdout(sys.stderr):  # the trainer's bars are no part of the page
            run = train(folder / "pool", folder / "logs", Training(epochs=2))
        (folder / "job.json").write_text(json.dumps(job_spec(folder / "pool", run), indent=2))
        with LocalStack(folder / "data", os.environ, port=0) as stack:
            steps = play(read_session(SESSION.read_text()), stack.url, folder)
        print(re.sub(re.escape(str(folder)), "/data", render(steps)), end="")


if __name__ == "__main__":
    main()
