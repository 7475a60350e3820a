"""Issue 18, point 21: hints about installing are printed whole, and a missing library is one sentence."""

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import coreset
from coreset.cli import app, local
from coreset.cli.output import print_error
from coreset.cli.tables import show_rows, show_warnings
from coreset.cli.up import UpContext
from coreset.errors import InvalidInput, Unavailable
from coreset.settings import StackSettings
from coreset.storage.storage import Storage
from coreset_workers.data.opening import file_info


def run_demo() -> tuple[int, str]:
    answer = CliRunner().invoke(app, ["demo"], obj=UpContext(StackSettings))
    return answer.exit_code, answer.stderr


def test_brackets_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    hint = "pip install 'coreset[embedded]', not [red]this[/red]"
    print_error(Unavailable(hint))
    show_rows({"file": hint})
    show_warnings([hint])
    printed = capsys.readouterr()
    assert hint in printed.err
    assert printed.out.count(hint) == 2


def test_the_demo_of_an_installed_package_names_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreset, "__file__", str(tmp_path / "site-packages" / "coreset" / "__init__.py"))
    code, text = run_demo()
    assert code == 2
    assert "needs a checkout of the repository" in text
    assert "make demo" in text


def test_the_demo_names_its_missing_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "DEMO_MODULES", ("torch", "no_such_library"))
    code, text = run_demo()
    assert code == 2
    assert "coreset demo needs no_such_library; run `make demo`" in text


@pytest.fixture
def without_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)


@pytest.mark.usefixtures("without_s3fs")
def test_s3_without_its_library_names_the_extra() -> None:
    with pytest.raises(InvalidInput, match=r"pip install 'coreset\[s3\]'"):
        Storage("s3://bucket/results")
    with pytest.raises(InvalidInput, match=r"pip install 'coreset\[s3\]'"):
        file_info("s3://bucket/000000.tar")
