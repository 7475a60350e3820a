"""A preflight as tables: inputs with their sources, memory, time, outputs, warnings."""

from rich.markup import escape
from rich.table import Table

from coreset.cli.output import out
from coreset.cli.tables import show_rows, show_warnings
from coreset.schemas.preflight import DEVICE, HOST, MemoryEstimate, Preflight, SampleFound, ShardsFound, TimeEstimate
from coreset.schemas.training import TrainingFound


def show_preflight(found: Preflight) -> None:
    """Print a preflight."""
    counted, total = found.parameters_counted, found.parameters_total
    rows = {
        "shards": _shards(found.shards),
        "samples": f"N = {found.n_samples.value:,.0f} ({found.n_samples.source})",
        "model": f"{found.model.name} (architecture from {found.model.source})",
        "counted": f"{'all' if counted == total else f'{counted:,} of'} {total:,} parameters"
        if found.checkpoints
        else "no parameters: these scores need no training run",
        "scores": ", ".join(found.scores),
    }
    if found.target_shards:
        rows["target"] = _shards(found.target_shards)
    if found.evaluation:
        rows["evaluation"] = f"up to {found.evaluation.proxies:,} proxies ({found.evaluation.model.name})"
        rows["test"] = _shards(found.evaluation.test_shards)
    if found.training:
        rows |= _training(found.training)
    if found.clip_model:
        rows["CLIP score by"] = found.clip_model.name
    show_rows(rows)
    _show_samples(found)
    if found.checkpoints:
        _show_checkpoints(found)
    if found.horizon:
        step = "" if found.horizon.step is None else f"step {found.horizon.step:,.0f}: "
        show_rows({"influence up to": step + found.horizon.why})
    _show_memory(found.memory)
    show_rows(_times(found.time) | _cheaper(found) | _outputs(found))
    show_warnings(found.warnings)


def _training(training: TrainingFound) -> dict[str, str]:
    if training.trained:
        return {"training": f"none: the run is there already, {training.run}"}
    extent = f"{training.model.name} on up to {training.samples:,} samples, up to {training.samples_seen:,} seen"
    stored = f"{size(training.bytes_in_memory)} of samples in memory, {size(training.bytes_stored)} of checkpoints"
    return {
        "training": f"{extent}, {training.seconds:,.0f} s at most; {stored}",
        "run": f"{training.run} (the checkpoints below are foreseen)",
    }


def _shards(shards: ShardsFound) -> str:
    announced = {source: number for source, number in shards.announced.items() if source != "nothing"}
    if not announced:
        return f"{shards.number:,}, {size(shards.bytes)}, number of samples not announced by files beside them"
    sources = ", ".join(f"{source} of {number:,}" for source, number in announced.items())
    return f"{shards.number:,}, {size(shards.bytes)}, {shards.samples:,} samples announced (by {sources})"


def _show_samples(found: Preflight) -> None:
    first = found.first_shard
    duplicates = f", {first.duplicates:,} duplicates" if first.duplicates else ""
    heading = f"\nfirst samples of {first.uri} ({first.read:,} read{duplicates})"
    out.print(heading, highlight=False, soft_wrap=True, markup=False)
    table = _table("key", "status", "members", "image", "uid", "caption")
    for sample in found.first_shard.samples:
        table.add_row(*map(escape, _sample(sample)))
    out.print(table, highlight=False)


def _sample(sample: SampleFound) -> tuple[str, ...]:
    members = " ".join(
        f"{ext} {'not read' if length is None else size(length)}" for ext, length in sample.members.items()
    )
    image = "x".join(map(str, sample.image_size)) if sample.image_size else ""
    uid = f"{sample.uid[:8]}... ({sample.uid_source})"
    return sample.key, sample.status, members, image, uid, (sample.caption or "")[:60]


def _show_checkpoints(found: Preflight) -> None:
    """Print the checkpoints, each path unbroken on a line of its own, since people copy it."""
    for one in found.checkpoints:
        numbers = (("step", one.step), ("lr", one.lr), ("lr_sum", one.lr_sum))
        facts = [f"{name} {number.value:g} ({number.source})" for name, number in numbers]
        out.print(f"\ncheckpoint {one.uri}", highlight=False, soft_wrap=True, markup=False)
        out.print(f"  {', '.join([*facts, f'P {one.optimizer or 1}'])}", highlight=False, soft_wrap=True, markup=False)


def _show_memory(memory: MemoryEstimate) -> None:
    """Print the stages, and the items of the largest one."""
    table = _table("memory", "", "device", "host")
    largest = max(memory.stages, key=lambda stage: stage.sum_of(DEVICE, HOST))
    for stage in memory.stages:
        table.add_row(stage.name, "", *(size(stage.sum_of(place)) for place in (DEVICE, HOST)))
        for item in stage.items if stage is largest else ():
            table.add_row("", item.what, *(size(item.bytes) if item.place == place else "" for place in (DEVICE, HOST)))
    out.print(table, highlight=False)
    beside = f", {size(memory.host_bytes)} beside it" if memory.host_bytes else ""
    needed = f"{size(memory.device_bytes)} of {size(memory.free_bytes)} free on {memory.device}{beside}"
    show_rows({"needs at most": needed, "batch": f"{memory.batch_size} samples"})


def _times(time: TimeEstimate) -> dict[str, str]:
    passes = (
        f"{time.forwards} forward passes per sample, {time.gflops:,.1f} GFLOP each, {time.samples_per_second:,.1f}/s"
    )
    return {
        "passes": passes,
        "time": f"prepare {time.prepare_seconds:,.0f} s, score {time.score_seconds:,.0f} s: {time.assumption}",
    }


def _cheaper(found: Preflight) -> dict[str, str]:
    lines = [f"{one.change}: {one.prepare_seconds:,.0f} s, {one.score_seconds:,.0f} s" for one in found.cheaper]
    return {"cheaper": "; ".join(lines)} if lines else {}


def _outputs(found: Preflight) -> dict[str, str]:
    there = f"{found.outputs.parts_existing:,} of {found.shards.number:,} exist and would be used again"
    return {
        "plan": found.plan_id + (" (already prepared)" if found.outputs.prepared else ""),
        "parts": f"{found.outputs.parts} ({there})",
        "result": found.outputs.result,
        "report": found.outputs.report,
        "selection": found.outputs.selection,
    }


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def size(count: float) -> str:
    """Return a number of bytes with a decimal unit."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
