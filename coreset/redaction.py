"""Secrets taken out of what people read: logs, problems, reasons, and specs that are shown again.

What counts as one: our API keys, what stands behind Authorization, the credentials and the query of a URI (signed URLs
carry theirs there), and what well-known tokens look like.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


class SecretPath:
    """Marks a field of a model, in its Annotated type, as a URL whose path is a secret too."""


MASK = "***"
KEY_PREFIX = "csk_"
"""Prefix of our own API keys, by which they are recognised in any text."""

_CHARACTER = r"[^\s\"'<>\\]"
_SCHEME = r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)"
_TOKENS = (
    rf"\b{KEY_PREFIX}[\w-]+",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bhf_[A-Za-z0-9]{20,}\b",
    r"\bwhsec_[\w+/=-]{16,}",
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # Credentials of a URI end at the last @ before the path; behind a colon that is no port they may hold slashes.
    (re.compile(rf"{_SCHEME}[^\s\"'<>\\/?#:]*:(?!\d{{1,5}}/){_CHARACTER}*@"), rf"\g<scheme>{MASK}@"),
    (re.compile(rf"{_SCHEME}[^\s\"'<>\\/?#]+@"), rf"\g<scheme>{MASK}@"),
    (re.compile(rf"(?P<before>{_SCHEME}[^\s\"'<>\\?]*\?){_CHARACTER}+"), rf"\g<before>{MASK}"),
    (
        re.compile(r"(?P<before>\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic)\s+)?)[^\s,;\"'\\]+", re.I),
        rf"\g<before>{MASK}",
    ),
    (re.compile(r"(?P<before>\bbearer\s+)[\w.~+/=-]{16,}", re.I), rf"\g<before>{MASK}"),
    (re.compile("|".join(_TOKENS)), MASK),
)
_HINT = re.compile(r"[@?]|bearer|authorization|csk_|AKIA|ASIA|hf_|whsec_", re.IGNORECASE)
"""What every secret has; texts without it, nearly all, are not searched further."""
_SECRET_NAME = re.compile(
    r"authorization|cookie|passw(or)?d|secret|api_?key|access_?key|signature|credential|security_?token", re.IGNORECASE
)


def redact(text: str) -> str:
    """Return the text without secrets. What holds none comes back as it was, and so does what was redacted before."""
    if not _HINT.search(text):
        return text
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text


def redact_all(value: Any) -> Any:
    """Return a value of JSON's kind without secrets: texts in it, and all of what is called like one."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        mapping = cast(Mapping[Any, Any], value)
        return {redact_all(name): redact_named(name, inner) for name, inner in mapping.items()}
    if isinstance(value, list | tuple):
        return [redact_all(inner) for inner in cast(list[Any], value)]
    return value


def redact_model(model: M) -> M:
    """Return a copy of a model without secrets in its texts. Fields that are called like one are left: ours hold none.

    The copy is built without validation, since a redacted URI need not be valid.
    """
    changed: dict[str, Any] = {}
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        secret = isinstance(value, str) and any(mark is SecretPath for mark in field.metadata)
        changed[name] = mask_path(value) if secret else _of_model(value)
    return model.model_copy(update=changed)


def mask_path(url: str) -> str:
    """Return a URL's scheme and host, the rest masked: receivers of webhooks put secrets into the path."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^/?#]*)(.*)", url, re.DOTALL)
    if found is None:
        return MASK
    scheme, host, rest = found.groups()
    return f"{scheme}{host}/{MASK}" if rest not in ("", "/") else f"{scheme}{host}{rest}"


def _of_model(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return redact_model(value)
    if isinstance(value, list):
        return [_of_model(inner) for inner in cast(list[Any], value)]
    if isinstance(value, dict):
        return {name: _of_model(inner) for name, inner in cast(dict[Any, Any], value).items()}
    return redact(value) if type(value) is str else value


def redact_named(name: Any, value: Any) -> Any:
    """Return a value of that name without secrets."""
    if isinstance(name, str) and isinstance(value, str) and _SECRET_NAME.search(name):
        return MASK
    return redact_all(value)
