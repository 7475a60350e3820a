"""`python -m benchmarks.installs`: what each distribution installs into an empty environment, for docs/install.md."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")
INSTALLS = {
    "coreset": ["coreset"],
    "coreset[scores]": ["coreset"],
    "coreset-service": ["coreset", "coreset-service"],
    "coreset-workers": ["coreset", "coreset-workers"],
}
FOLDERS = {"coreset": ROOT, "coreset-service": ROOT / "service", "coreset-workers": ROOT / "workers"}
LARGEST = 5


def build(folder: Path) -> dict[str, Path]:
    """Build a wheel of each distribution."""
    wheels: dict[str, Path] = {}
    for name, source in FOLDERS.items():
        subprocess.run([UV, "build", "--quiet", "--out-dir", folder / name, source], check=True)
        (wheels[name],) = (folder / name).glob("*.whl")
    return wheels


def install(folder: Path, wanted: str, wheels: list[Path]) -> Path:
    """Install wheels into an empty environment; returns its site-packages."""
    extra = wanted[wanted.index("[") :] if "[" in wanted else ""
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    constraints = ["-c", ROOT / "constraints.txt"]
    targets = [f"{wheel}{extra}" for wheel in wheels]
    subprocess.run(
        [UV, "pip", "install", "--quiet", "--python", folder / "bin/python", *constraints, *targets], check=True
    )
    (packages,) = (folder / "lib").glob("python*/site-packages")
    return packages


def megabytes(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file()) / 1e6


def row(wanted: str, packages: Path, wheels: list[Path]) -> str:
    distributions = len(list(packages.glob("*.dist-info")))
    names = {name.partition("/")[0] for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()}
    ours = ", ".join(f"`{name}`" for name in sorted(names) if not name.endswith(".dist-info"))
    sizes = {entry.name: megabytes(entry) for entry in packages.iterdir() if not entry.name.endswith(".dist-info")}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    given = ", ".join(f"{name} {size:,.0f}" for name, size in largest)
    return f"| `{wanted}` | {ours} | {distributions} | {sum(sizes.values()):,.0f} MB | {given} |"


def main() -> None:
    print("| install | top-level names of ours | packages | on disk | the largest, MB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        wheels = build(Path(folder))
        for number, (wanted, names) in enumerate(INSTALLS.items()):
            chosen = [wheels[name] for name in names]
            print(row(wanted, install(Path(folder) / f"venv{number}", wanted, chosen), chosen), flush=True)


if __name__ == "__main__":
    main()
