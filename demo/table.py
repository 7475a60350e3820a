"""The demo's last picture: what each ranking keeps."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from coreset.schemas.manifest import Manifest

LABELS = {
    "diffin": "Diff-In",
    "diffin+clip_score": "Diff-In + CLIP score",
    "clip_score": "CLIP score",
    "neg_clip_loss": "negCLIPLoss",
    "tracin": "TracIn",
    "random": "random",
}


@dataclass(frozen=True)
class Method:
    """What a ranking keeps: shares of its top k, and the correlation of its ranks with CLIP score's."""

    defects_in_topk: float
    overlap_clip_score: float
    spearman_clip_score: float | None


def show_methods(console: Console, manifest: Manifest, methods: dict[str, Method]) -> None:
    bad = ", ".join(f"{count} {reason}" for reason, count in manifest.bad.items())
    console.print(f"{manifest.read:,} samples read, {manifest.scored:,} scored, left out: {bad}")
    table = Table(
        title=f"The best {manifest.selection.k:,} by each ranking (+: by the sum of ranks)", title_justify="left"
    )
    table.add_column("ranking")
    for heading in ("defects in it", "shared with CLIP", "rank correlation"):
        table.add_column(heading, justify="right")
    for name, method in methods.items():
        spearman = "none" if method.spearman_clip_score is None else f"{method.spearman_clip_score:.2f}"
        table.add_row(LABELS[name], f"{method.defects_in_topk:.1%}", f"{method.overlap_clip_score:.1%}", spearman)
    console.print(table)
    files = manifest.selection.files
    report = manifest.report.uri if manifest.report else "none"
    for what, where in (
        ("coreset", files["subset.npy"].uri),
        ("with scores", files["subset.parquet"].uri),
        ("every score", f"{Path(manifest.parts[0].uri).parent}/*.parquet"),
        ("report", report),
    ):
        console.print(f"{what:>12}  {where}", highlight=False, soft_wrap=True)
