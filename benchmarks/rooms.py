"""`python -m benchmarks.rooms`: folders of the packages, with size and imports, for docs/architecture.md."""

import ast
from collections.abc import Iterable
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "coreset": ROOT / "coreset",
    "diffin": ROOT / "diffin",
    "coreset_service": ROOT / "service" / "coreset_service",
    "coreset_workers": ROOT / "workers" / "coreset_workers",
}


def room_of(module: str) -> str:
    """Return the folder that a module lies in: `coreset/queue`, or the package for its loose modules."""
    package, *rest = module.split(".")
    inside = rest and (PACKAGES[package] / rest[0]).is_dir()
    return f"{package}/{rest[0]}" if inside else package


def files_by_room() -> dict[str, list[Path]]:
    rooms: dict[str, list[Path]] = {}
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            module = ".".join([package, *file.relative_to(folder).with_suffix("").parts])
            rooms.setdefault(room_of(module), []).append(file)
    return rooms


def arrows() -> dict[str, set[str]]:
    """Return the rooms that each room imports."""
    graph = grimp.build_graph(*PACKAGES)
    found: dict[str, set[str]] = {}
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            found.setdefault(room_of(module), set()).add(room_of(other))
    return {room: others - {room} for room, others in found.items()}


def purpose(room: str) -> str:
    """Return the first line of the docstring of the room's `__init__`."""
    package, _, folder = room.partition("/")
    docstring = ast.get_docstring(ast.parse((PACKAGES[package] / folder / "__init__.py").read_text()))
    return (docstring or "").split("\n")[0].rstrip(".")


def table() -> str:
    imported = arrows()
    rows = ["| folder | what it is | files | lines | imports |", "|---|---|---|---|---|"]
    for room, files in files_by_room().items():
        lines = sum(len(file.read_text().splitlines()) for file in files)
        rows.append(
            f"| `{room}` | {purpose(room)} | {len(files)} | {lines:,} | {_short(room, imported.get(room, ()))} |"
        )
    return "\n".join(rows)


def _short(room: str, others: Iterable[str]) -> str:
    """Name folders of the same package by their last part, and loose modules by a dot."""
    package = room.partition("/")[0]
    inside = sorted(
        "." if other == package else other.removeprefix(f"{package}/") for other in others if _in(package, other)
    )
    outside = sorted(f"`{other}`" for other in others if not _in(package, other))
    return ", ".join([*inside, *outside])


def _in(package: str, room: str) -> bool:
    return room.partition("/")[0] == package


if __name__ == "__main__":
    print(table())
