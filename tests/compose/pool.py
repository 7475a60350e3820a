"""`python tests/compose/pool.py FOLDER`: a pool, a training run and a job of them, for smoke.sh."""

import json
import sys
from pathlib import Path

from demo.pool import write_pool
from demo.train import Training, train

SHARDS, SAMPLES = 60, 2400


def main(folder: Path) -> None:
    write_pool(folder / "trained", 240, 4)
    train(folder / "trained", folder / "logs", Training(name="smoke", epochs=2, batch_size=32, loader_workers=0))
    write_pool(folder / "pool", SAMPLES, SHARDS)
    spec = {
        "pool": {"shards": [f"/pools/pool/{{000000..{SHARDS - 1:06d}}}.tar"]},
        "checkpoints": {"run": "/pools/logs/smoke"},
        "reference": {"size": 32},
        "select": {"k": 500},
    }
    (folder / "job.json").write_text(json.dumps(spec))
    folder.chmod(0o755)  # the containers' user is another one


if __name__ == "__main__":
    main(Path(sys.argv[1]))
