"""params.txt, the options of a training run as open_clip's trainer writes them: one `name: value` a line."""

import json
from typing import Any

from coreset_workers.data.opening import open_file

LARGEST_TEXT = 2**24
"""Bytes of params.txt and open_clip_config.json that are read."""

Params = dict[str, str]
"""Options by name, their values as text."""


def read_params(directory: str) -> Params:
    """Return the options of the run in a directory; {} without params.txt."""
    try:
        with open_file(f"{directory}/params.txt") as file:
            lines = file.read(LARGEST_TEXT).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def option(params: Params, name: str) -> str | None:
    """Return an option's text; None if it is absent, empty or was left at None."""
    value = params.get(name, "")
    return None if value in ("", "None") else value


def numbers(params: Params, name: str) -> Any:
    """Return an option that is a number or a sequence of numbers; None if it was not given."""
    value = option(params, name)
    return None if value is None else json.loads(value.replace("(", "[").replace(")", "]"))


def is_set(params: Params, name: str) -> bool:
    """Return whether a switch, such as --siglip, was given."""
    return params.get(name) == "True"
