"""The door to what a spec names, at the moment of opening: links, DNS, redirects."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pytest

from coreset.access.locations import Locations
from coreset.errors import AddressForbidden, LocationForbidden
from coreset_workers.data import opening as files


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = files.allowed()
    yield
    files.allow(before)
    fsspec.get_filesystem_class("http").clear_instance_cache()


def test_everything_local_is_open_by_default(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    with files.open_file(str(tmp_path / "a")) as file:
        assert file.read() == b"1"
    with files.open_file(f"file://{tmp_path}/a") as file:
        assert file.read() == b"1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder that alone is allowed; `secret` lies beside it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root" / "inside").write_bytes(b"1")
    files.allow(Locations.parse(str(tmp_path / "root")))
    return tmp_path / "root"


def test_links_lead_nowhere_else(root: Path) -> None:
    (root / "out").symlink_to(root.parent / "secret")
    (root / "relative").symlink_to("../secret")
    (root / "folder").symlink_to(root.parent)
    (root / "fine").symlink_to(root / "inside")
    for name in ("out", "relative", "folder/secret", "folder", "folder/root/out"):
        for look in (files.open_file, files.file_info, files.names_in):
            with pytest.raises(LocationForbidden, match="a link that leads out"):
                look(str(root / name))
    with files.open_file(str(root / "fine")) as file:
        assert file.read() == b"1"


def test_the_allowed_folder_may_be_a_link_itself(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    files.allow(Locations.parse(str(link)))
    with files.open_file(f"{link}/inside") as file:
        assert file.read() == b"1"


def test_relative_paths_are_below_the_workers_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with files.open_file("inside") as file:
        assert file.read() == b"1"
    monkeypatch.chdir(root.parent)
    with pytest.raises(LocationForbidden):
        files.open_file("secret")


def test_nothing_is_expanded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.chdir(root)
    for uri in ("$HOME/inside", "${HOME}/inside", f"{root}/insid*", f"{root}/$X"):
        with pytest.raises(FileNotFoundError):
            files.open_file(uri)
    with pytest.raises(LocationForbidden):
        files.open_file("~/inside")


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def serving(answers: dict[str, Answer]) -> Iterator[tuple[int, list[str]]]:
    """A web server on this machine: its port, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answers.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_private_hosts_are_not_even_asked() -> None:
    with serving({"/a.tar": (200, {}, b"secret")}) as (port, asked):
        for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::ffff:127.0.0.1]"):
            for look in (files.open_file, files.file_info, files.names_in):
                with pytest.raises((LocationForbidden, AddressForbidden, OSError, ValueError)):
                    look(f"http://{host}:{port}/a.tar")
        assert asked == []


def test_a_name_that_turns_private_later_is_refused_when_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the name was public once, and leads here at the moment of the connection."""
    real = socket.getaddrinfo

    def rebound(host: Any, *arguments: Any, **options: Any) -> Any:
        return real("127.0.0.1" if host == "pool.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebound)
    with serving({"/a.tar": (200, {}, b"secret")}) as (port, asked):
        with pytest.raises(AddressForbidden, match=r"pool\.example"):
            files.open_file(f"http://pool.example:{port}/a.tar")
        assert asked == []


def test_a_host_that_is_named_may_be_private_and_its_redirects_may_not_leave() -> None:
    with serving({"/x.tar": (200, {}, b"secret")}) as (other, others):
        answers: dict[str, Answer] = {"/p/a.tar": (200, {}, b"1")}
        for name, where in {
            "in": "/p/a.tar",
            "out": "/x.tar",
            "up": "/p/../x.tar",
            "host": f"http://127.0.0.1:{other}/x.tar",
            "name": f"http://localhost:{other}/x.tar",
            "meta": "http://169.254.169.254/latest",
            "file": "file:///etc/passwd",
        }.items():
            answers[f"/p/{name}"] = (302, {"Location": where}, b"")
        with serving(answers) as (port, asked):
            here = f"http://127.0.0.1:{port}/p"
            files.allow(Locations.parse(here))
            for name in ("a.tar", "in"):
                with files.open_file(f"{here}/{name}") as file:
                    assert file.read() == b"1"
            for name in ("out", "host", "name", "meta", "file"):
                with pytest.raises((LocationForbidden, ValueError)):
                    files.open_file(f"{here}/{name}").read()
            assert "/x.tar" not in asked
        assert others == []
