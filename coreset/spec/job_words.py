"""A job in a few words: its name, kind, pool, run, size, target and labels, for lists, pages and reports."""

import posixpath

from coreset.spec.job import JobSpec, ValidationTarget


def describe_job(spec: JobSpec) -> dict[str, str]:
    """Return the facts that distinguish a job, by heading; the name only if it was given."""
    facts = {"name": spec.name} if spec.name else {}
    facts |= {"kind": job_kind(spec), "pool": _shards(spec.pool.shards), "keep": _size(spec)}
    facts["target"] = _shards(spec.target.pool.shards) if isinstance(spec.target, ValidationTarget) else spec.target
    return facts | ({"labels": describe_labels(spec.labels)} if spec.labels else {})


def describe_briefly(spec: JobSpec) -> str:
    """Return the facts in one line, paths by their last two names, for lists."""
    facts = describe_job(spec)
    for heading in ("pool", "target"):
        facts[heading] = f"{heading} {_tail(facts[heading])}"
    return " · ".join(facts.values())


def describe_labels(labels: dict[str, str]) -> str:
    """Return labels as `key:value`, separated by commas."""
    return ", ".join(f"{key}:{value}" for key, value in labels.items())


def job_kind(spec: JobSpec) -> str:
    """Return `clean` or `select`, with `evaluate` if proxies are trained too."""
    return ("clean" if spec.clean else "select") + (" + evaluate" if spec.evaluate else "")


def _size(spec: JobSpec) -> str:
    select = spec.select
    if select.k is not None:
        return f"k = {select.k:,}"
    if select.fraction is not None:
        return f"{100 * select.fraction:.4g} %"
    return f"value >= {select.threshold:g}"


def _shards(shards: list[str]) -> str:
    return shards[0] + (f" and {len(shards) - 1:,} more" if len(shards) > 1 else "")


def _tail(place: str) -> str:
    path, *more = place.split(" and ")
    folder, name = posixpath.split(path)
    return " and ".join([posixpath.join(posixpath.basename(folder), name), *more])
