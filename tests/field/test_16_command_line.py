"""Issue 18, point 16, the parts of the command line: paths, proxies, a byte order mark."""

import asyncio
import codecs
import json
import os
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coreset import AsyncClient, Client
from coreset.cli import app
from coreset.cli.results import write
from coreset.cli.spec_files import read_spec
from coreset.cli.up import UpContext
from coreset.entry_points import module_command
from coreset.errors import InvalidInput
from coreset.settings import StackSettings

SPEC = {"pool": {"shards": ["/a.tar"]}, "checkpoints": {"run": "/run"}, "select": {"k": 10}}


def run(*arguments: str, url: str = "", stdin: bytes = b"") -> tuple[int, str, str]:
    context = UpContext(StackSettings, dict(os.environ))
    answer = CliRunner().invoke(app, list(arguments), input=stdin, obj=context, env={"CORESET_URL": url})
    return answer.exit_code, answer.stdout, answer.stderr


def test_score_into_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps(SPEC))
    (tmp_path / "out").touch()
    code, _, text = run("score", str(tmp_path / "job.json"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "out is a file; give a folder" in text


def test_up_into_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    code, _, text = run("up", "--port", "0", "--data", str(tmp_path / "data"))
    assert code == 2
    assert "the data folder" in text


def test_a_download_into_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "subset.npy").mkdir()
    with pytest.raises(InvalidInput, match="is a folder; give the name of a file"):
        write(tmp_path / "subset.npy", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["subset.npy"]


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_proxies_do_not_stand_between_us_and_the_loopback(
    url: str, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)

    async def page() -> None:
        async with AsyncClient(url, patience=0) as client:
            assert (await client.page()).jobs == []

    with Client(url, patience=0) as client:
        assert client.page().jobs == []
    asyncio.run(page())
    assert run("list", "--json", url=url)[0] == 0


def test_a_stack_starts_behind_a_proxy(tmp_path: Path) -> None:
    environment = {**os.environ, "ALL_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = module_command("coreset", "up", "--port", "0", "--workers", "0", "--data", str(tmp_path), "--json")
    up = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert up.stdout is not None
    line = up.stdout.readline()
    up.terminate()
    up.communicate(timeout=60)
    assert json.loads(line)["workers"] == 0


def test_a_proxy_of_an_unknown_kind_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(InvalidInput, match="a proxy of the environment"):
        Client("http://coreset.example")


def test_a_byte_order_mark_is_no_part_of_a_spec(url: str, tmp_path: Path) -> None:
    content = codecs.BOM_UTF8 + json.dumps(SPEC).encode()
    (tmp_path / "job.json").write_bytes(content)
    assert read_spec(str(tmp_path / "job.json")) == SPEC
    code, out, text = run("submit", "-", "--json", url=url, stdin=content)
    assert code == 0, text
    assert json.loads(out)["spec"]["select"]["k"] == 10
