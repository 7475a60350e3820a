"""API keys. We keep the sha256 of a key: it is drawn with 256 bits, so nothing slower is needed against guesses.

A key's line, as `coreset key new` prints it and CORESET_API_KEYS or CORESET_API_KEYS_FILE hold it:

    NAME SCOPES SHA256    e.g. curation read,submit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, StringConstraints, ValidationError

from coreset.errors import InvalidInput
from coreset.redaction import KEY_PREFIX
from coreset.spec.base import FrozenModel

Scope = Literal["read", "submit"]
SCOPES: tuple[Scope, ...] = get_args(Scope)


class ApiKey(FrozenModel):
    """A key without the key: several may be active at once, also under one name.

    Attributes:
        name: the owner's name; limits are counted by it, and logs show it.
        scopes: `read` looks at jobs and results, `submit` starts, changes and ends jobs.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[\w.@-]{1,64}$")]
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def parse(cls, line: str) -> Self:
        """Return the entry that a line of the settings describes. Raises ValueError."""
        name, scopes, digest = line.split()
        return cls.model_validate({"name": name, "scopes": scopes.split(","), "sha256": digest})

    @property
    def line(self) -> str:
        return f"{self.name} {','.join(scope for scope in SCOPES if scope in self.scopes)} {self.sha256}"


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """Draw a key. Returns the key itself, to be shown once, and the entry that the service stores.

    Raises:
        InvalidInput: the name or a scope is none.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    try:
        return key, ApiKey.model_validate({"name": name, "scopes": list(scopes), "sha256": _digest(key)})
    except ValidationError as error:
        wrong = ", ".join(str(mistake["loc"][0]) for mistake in error.errors())
        raise InvalidInput(
            f"{wrong}: a name has up to 64 letters, digits, _ . @ -, and scopes are {' and '.join(SCOPES)}"
        ) from error


class Keyring:
    """The keys that open the service; falsy without any."""

    def __init__(self, keys: Iterable[ApiKey] = ()) -> None:
        self._keys = list(keys)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read keys, one a line or behind a `;`. Empty lines and those that begin with # are left out.

        Raises:
            ValueError: says which line is wrong, and nothing of what it holds.
        """
        lines = [line.strip() for line in re.split(r"[\n;]", text)]
        keys: list[ApiKey] = []
        for number, line in enumerate(lines, 1):
            if not line or line.startswith("#"):
                continue
            try:
                keys.append(ApiKey.parse(line))
            except ValueError:
                raise ValueError(
                    f"API key {number} is not NAME SCOPES SHA256; `coreset key new` prints such a line"
                ) from None
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, key: str) -> ApiKey | None:
        """Return the key's entry. All are compared, each in constant time."""
        return self.of_digest(_digest(key))

    def of_digest(self, digest: str) -> ApiKey | None:
        """Return the entry of the key with this sha256."""
        found = None
        for entry in self._keys:
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return found


def read_keyring(text: str, file: Path | None) -> Keyring:
    """Return the keys of both settings.

    Raises:
        InvalidInput: a line is none, the file is not there, or a setting is given and holds no key.
    """
    try:
        more = file.read_text(encoding="utf-8") if file else ""
        keyring = Keyring.parse(f"{text}\n{more}")
    except OSError as error:
        raise InvalidInput(f"CORESET_API_KEYS_FILE: {file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidInput(str(error)) from error
    if (text.strip() or file) and not keyring:
        raise InvalidInput("CORESET_API_KEYS or its file is given, but holds no key")
    return keyring


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
