"""API keys: drawn, kept as hashes, found again."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coreset.access.api_keys import ApiKey, Keyring, new_key, read_keyring
from coreset.cli import app
from coreset.errors import InvalidInput


def test_a_key_opens_and_another_does_not() -> None:
    secret, entry = new_key("curation", ["submit", "read"])
    other, second = new_key("curation", ["read"])
    ring = Keyring.parse(f"# ours\n{entry.line}\n\n{second.line}")
    assert ring.find(secret) == entry
    assert ring.find(other) == second  # several of one name are active at once
    assert ring.find(secret[:-1]) is None
    assert ring.find(entry.sha256) is None  # the hash is no key
    assert ring.find("") is None
    assert ring.find("\udcff") is None
    assert not Keyring()


def test_the_line_holds_the_hash_and_not_the_key() -> None:
    secret, entry = new_key("a.b@c-d", ["read", "submit"])
    assert entry.line == f"a.b@c-d read,submit {hashlib.sha256(secret.encode()).hexdigest()}"
    assert ApiKey.parse(entry.line) == entry
    assert new_key("x", ["read"])[0] != new_key("x", ["read"])[0]


@pytest.mark.parametrize("line", ["x", "x read", f"x write {'0' * 64}", f"x read {'0' * 63}", f"x/y read {'0' * 64}"])
def test_a_bad_line_is_counted_but_not_told(line: str) -> None:
    with pytest.raises(InvalidInput, match="API key 2 is not NAME SCOPES SHA256") as caught:
        read_keyring(f"{new_key('a', ['read'])[1].line};{line}", None)
    assert line not in caught.value.detail.split(" is not ")[0]


def test_keys_come_from_the_setting_and_the_file(tmp_path: Path) -> None:
    (one, first), (two, second) = new_key("one", ["read"]), new_key("two", ["submit"])
    file = tmp_path / "keys"
    file.write_text(f"{second.line}\n")
    ring = read_keyring(first.line, file)
    assert ring.find(one) == first
    assert ring.find(two) == second
    assert not read_keyring("", None)


def test_a_setting_without_a_key_is_a_mistake_and_no_open_door(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# nothing yet\n")
    with pytest.raises(InvalidInput, match="holds no key"):
        read_keyring("", tmp_path / "keys")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_keyring("", tmp_path / "none")


def test_the_command_prints_key_and_line() -> None:
    result = CliRunner().invoke(app, ["key", "new", "--name", "curation", "--scopes", "read"])
    secret, line = result.stdout.split("\n")[:2]
    assert Keyring.parse(line).find(secret) == ApiKey.parse(line)
    assert ApiKey.parse(line).scopes == {"read"}
    assert secret not in result.stderr
    assert CliRunner().invoke(app, ["key", "new", "--name", "x", "--scopes", "all"]).exit_code == 2
