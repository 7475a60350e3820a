"""`python -m benchmarks.pipeline --json OUT`: from a shard to its part, stage by stage, against the model alone.

The weights are open_clip's initial ones and the directions random: neither changes what anything costs. The score is
`diffin` at m = 5, the cheapest of the estimators, so the model hides as little of the loading as it ever does. The
model alone takes the same blocks, already decoded, before and after each whole shard; the overhead is that of a shard
over the mean of these two, the median over the rounds.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.transform import PreprocessCfg
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import STEP, Contenders, planned
from benchmarks.environment import environment
from benchmarks.pipeline.decoders import decoders, pipe_ms, resizers, tokenizer
from benchmarks.pipeline.watched import Clock, WatchedLoader, WatchedScorer, WatchedStorage
from benchmarks.shards import raw_samples, web_sized, write_shard
from coreset.schemas.plan import Plan, PlannedCheckpoint, PlannedModel, PlannedShard, Sourced
from coreset.spec.scores import Score
from coreset_workers.data.loader import SAMPLES_PER_CALL, Block
from coreset_workers.data.tar import RawSample, ShardReader
from coreset_workers.influence import prepared_files as prepared
from coreset_workers.model.batch_size import LARGEST_BATCH
from coreset_workers.model.clip import view_functions
from coreset_workers.model.inputs import RUN, views
from coreset_workers.stages.score import score_shard
from diffin.stencil import first_difference

CHECKPOINTS = 5
VIT_BATCH = 16
REFERENCE_SIZE = 16
SMALL = PlannedModel(
    name="small",
    config={
        "embed_dim": 64,
        "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 64, "patch_size": 32},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    },
    source="spec",
)
"""So small that loading is a good part of the work, as it is beside a fast GPU."""


@dataclass(frozen=True)
class Case:
    """A model and a shard to score with it."""

    scorer: WatchedScorer
    shard: PlannedShard

    @classmethod
    def build(cls, model: PlannedModel, shard: PlannedShard, folder: Path) -> "Case":
        """Write initial weights and a preparation as a job would leave them."""
        contenders = Contenders.build(model, torch.device("cpu"), REFERENCE_SIZE)
        weights = folder / "weights.pt"
        torch.save(contenders.model.module.state_dict(), weights)
        plan = _plan(model, shard, weights)
        storage = WatchedStorage(str(folder))
        ready = contenders.prepared(first_difference("diffin", "influence", STEP))
        directions = {"influence": ready.directions["influence"]}
        for index in range(CHECKPOINTS):
            checkpoint = prepared.PreparedCheckpoint(ready.stencil, directions, ready.contexts)
            prepared.save_checkpoint(storage, plan, index, checkpoint)
        reference = contenders.reference
        prepared.save_tensors(
            storage, plan, "reference", {"ids": reference.ids, "captions": reference.captions.clone()}
        )
        count = contenders.model.layout.size
        done = prepared.Preparation(
            precision="float32", reference_uids=[], parameters_counted=count, parameters_total=count
        )
        prepared.save_preparation(storage, plan, done)
        return cls(WatchedScorer(plan, storage, torch.device("cpu")), shard)

    def blocks(self) -> list[Block]:
        loader = WatchedLoader(views(self.scorer.plan), 0, Clock())
        return list(loader.blocks(ShardReader(self.shard.uri), self.scorer.batches.size))

    def alone(self, blocks: list[Block]) -> float:
        """Return the seconds of the model alone."""
        started = time.perf_counter()
        for block in blocks:
            self.scorer.score(block, lambda share: None)
        return time.perf_counter() - started

    def whole(self, loader: WatchedLoader, thumbnails: bool = False) -> dict[str, float]:
        """Score the shard, and return the seconds of each stage and of all."""
        clock = Clock()
        loader.clock = self.scorer.clock = clock
        WatchedStorage.clock = clock
        clock.call("all", lambda: score_shard(self.scorer, loader, self.shard, lambda share: None, thumbnails))
        return dict(clock.seconds)


def _plan(model: PlannedModel, shard: PlannedShard, weights: Path) -> Plan:
    none = Sourced(value=1, source="benchmark")
    checkpoint = {"uri": str(weights), "size": 0, "sha256": "", "epoch": None, "optimizer": None}
    return Plan(
        shards=[shard],
        caption_field=None,
        checkpoints=[
            PlannedCheckpoint(index=index, step=none, lr=none, lr_sum=none, **checkpoint)
            for index in range(CHECKPOINTS)
        ],
        model=model,
        clip_model=None,
        clip_pretrained=None,
        target="training",
        reference_size=REFERENCE_SIZE,
        reference_seed=0,
        n_samples=none,
        scores=[Score.DIFFIN],
        seed=0,
    )


def end_to_end(
    model: PlannedModel, samples: list[RawSample], batch: int, processes: int, threads: int, rounds: int
) -> dict[str, Any]:
    """Score one shard whole and the model alone in turns, then once more with the loader's stages counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        case = Case.build(model, write_shard(Path(folder) / "000000.tar", samples), Path(folder))
        case.scorer.batches.size = batch
        blocks = case.blocks()
        loader = WatchedLoader(views(case.scorer.plan), processes, Clock())
        list(loader.decode(samples[:SAMPLES_PER_CALL]))  # its processes have started
        alone, whole, pictured = [case.alone(blocks[:1]), case.alone(blocks)][1:], [], []
        for _ in range(rounds):
            whole.append(case.whole(loader))
            alone.append(case.alone(blocks))
            pictured.append(case.whole(loader, thumbnails=True))
        loader.close()
        stages = case.whole(WatchedLoader(views(case.scorer.plan), 0, Clock()))
    torch.set_num_threads(before)
    ratios = [w["all"] / statistics.mean(alone[i : i + 2]) for i, w in enumerate(whole)]
    count = sum(len(block.good) for block in blocks)
    return {
        "samples": count,
        "batch": batch,
        "model_threads": threads,
        "loader_processes": processes,
        "model_alone_s": statistics.median(alone),
        "shard_s": statistics.median(w["all"] for w in whole),
        "overhead": statistics.median(ratios) - 1,
        "overheads": [ratio - 1 for ratio in ratios],
        "thumbnails": statistics.median(p["all"] / w["all"] for p, w in zip(pictured, whole, strict=True)) - 1,
        "share_waiting": statistics.median(w["wait"] / w["all"] for w in whole),
        "write_s": statistics.median(w["write"] for w in whole),
        "stage_ms": {s: 1000 * stages[s] / count for s in ("read", "decode", "resize", "tokenize", "forward", "write")},
    }


def before_the_model(samples: list[RawSample], rounds: int) -> dict[str, Any]:
    """Measure decoders, resize, tokenizer and pipe on these samples."""
    images, cfg = [raw.image() or b"" for raw in samples], PreprocessCfg(size=224)
    captions = [raw.members["txt"].decode() for raw in samples]
    loader = WatchedLoader({RUN: partial(view_functions, SMALL, cfg)}, 0, Clock())
    decoded = list(loader.decode(samples[:SAMPLES_PER_CALL]))
    return {
        "bytes": float(np.mean([len(data) for data in images])),
        "decoders": decoders(images, cfg, rounds),
        "resize": resizers(images, cfg, rounds),
        "tokenizer": tokenizer(open_clip.get_tokenizer("ViT-B-32"), captions, rounds),
        "pipe_ms": pipe_ms(decoded, 5 * rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, metavar="OUT")
    parser.add_argument("--shards", nargs="+", help="shards of JPEGs with texts, braces allowed; else some are drawn")
    parser.add_argument("--samples", type=int, default=512, help="of a shard for the small model")
    parser.add_argument("--vit-samples", type=int, default=32, help="of a shard for ViT-B-32; 0 leaves it out")
    parser.add_argument("--decoded", type=int, default=128, help="images for the decoders")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    console, torch_threads = Console(), torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder, console.status("shards"):
        given = raw_samples(options.shards, options.samples, Path(folder))
    pools = {"given": given, "640x480": web_sized(given)}
    result: dict[str, Any] = {"environment": environment(), "settings": _settings(options, given), "pools": {}}
    for name, samples in pools.items():
        with console.status(name):
            found = before_the_model(samples[: options.decoded], options.rounds)
            found["small"] = end_to_end(SMALL, samples, LARGEST_BATCH["cpu"], 1, 1, options.rounds)
            if options.vit_samples and name != "given":
                few = samples[: options.vit_samples]
                found["ViT-B-32"] = end_to_end(planned("ViT-B-32"), few, VIT_BATCH, 2, torch_threads, 1)
        result["pools"][name] = found
        options.json.write_text(json.dumps(result, indent=2) + "\n")
        show(console, name, found)


def _settings(options: argparse.Namespace, given: list[RawSample]) -> dict[str, Any]:
    return {
        "shards": "given" if options.shards else "drawn",
        "samples": len(given),
        "checkpoints": CHECKPOINTS,
        "score": "diffin",
        "rounds": options.rounds,
        "load_average": os.getloadavg()[0],
    }


def show(console: Console, name: str, found: dict[str, Any]) -> None:
    table = Table(title=f"{name}: {found['bytes'] / 1000:.0f} kB an image", title_justify="left")
    for heading in ("", "ms", "with resize"):
        table.add_column(heading, justify="left" if not heading else "right")
    for decoder, row in found["decoders"].items():
        table.add_row(decoder, f"{row['decode_ms']:.2f}", f"{row['with_resize_ms']:.2f}")
    console.print(table)
    for model in ("small", "ViT-B-32"):
        if model in found:
            row = found[model]
            stages = ", ".join(f"{stage} {value:.2f}" for stage, value in row["stage_ms"].items())
            console.print(
                f"{model}: {100 * row['overhead']:+.1f} % over the model alone, waiting "
                f"{100 * row['share_waiting']:.1f} % of the time, {100 * row['thumbnails']:+.1f} % with thumbnails; "
                f"ms a sample: {stages}"
            )


if __name__ == "__main__":
    main()
