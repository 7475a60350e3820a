"""Counts of what was left aside or replaced in a pool, with an example of each, and the sentences that say so."""

from collections.abc import Iterable, Mapping

from coreset.schemas.part import Oddity, OddityKind

MAX_EXAMPLE_CHARACTERS = 300

_SENTENCES = {
    OddityKind.IGNORED_MEMBER: "{count:,} members of shards belong to no sample, such as {example}: hidden files, "
    "links, names without a key or an extension, and names that webdataset reserves are not read",
    OddityKind.DOTTED_KEY: "{count:,} images are not read, such as {example}: webdataset splits a name at its first "
    "dot and takes the rest for the extension; write the shards with keys without dots",
    OddityKind.UNUSABLE_UID: "{count:,} samples have a uid that is not a 128-bit number, such as {example}: their "
    "uids are made of their content instead",
    OddityKind.UNREADABLE_ROW: "{count:,} rows cannot be read, such as {example}: they are no JSON objects, or have "
    "more values than the csv has columns; quote values with commas",
    OddityKind.UNREADABLE_PATH: "{count:,} paths of images lead to no file that is read, such as {example}: paths "
    "are relative to the folder of the file that names them, and must not leave it, by a link neither; files have at "
    "most 64 MB",
}


class Oddities:
    """Counts by kind, each with its first example."""

    def __init__(self, found: Mapping[str, Oddity] | None = None) -> None:
        self._found = dict(found or {})

    def add(self, kind: OddityKind, example: str) -> None:
        """Count one more."""
        before = self._found.get(kind.value)
        first = before.example if before else example[:MAX_EXAMPLE_CHARACTERS]
        self._found[kind.value] = Oddity(count=(before.count if before else 0) + 1, example=first)

    def as_dict(self) -> dict[str, Oddity]:
        return dict(sorted(self._found.items()))

    def warnings(self) -> list[str]:
        """Return a sentence for each kind."""
        return warnings(self._found)


def merged(each: Iterable[Mapping[str, Oddity]]) -> dict[str, Oddity]:
    """Add up oddities by kind, and keep the first example of each kind."""
    total: dict[str, Oddity] = {}
    for found in each:
        for kind, oddity in found.items():
            before = total.get(kind)
            total[kind] = Oddity(count=before.count + oddity.count, example=before.example) if before else oddity
    return dict(sorted(total.items()))


def warnings(found: Mapping[str, Oddity]) -> list[str]:
    """Return a sentence for each kind."""
    return [_SENTENCES[OddityKind(kind)].format(**oddity.model_dump()) for kind, oddity in sorted(found.items())]


def duplicates_warning(duplicates: int, scored: int) -> str | None:
    """Return the sentence about duplicates, or None if there are none."""
    if not duplicates:
        return None
    return (
        f"{duplicates:,} of {scored:,} scored samples are duplicates: an earlier sample has their uid (without a uid "
        "in the json member: the same image and caption); a selection takes one of each uid"
    )
