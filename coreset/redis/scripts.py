"""Loader of the Lua scripts in `lua/`. Each change of a job is one script: it happens wholly, once, or not at all.

A script's head documents its KEYS and ARGV; it knows no key by name. A line `-- include NAME` is replaced with the text
of `lua/NAME.lua`.
"""

import re
from functools import cache
from importlib import resources
from typing import Any

_INCLUDE = re.compile(r"^-- include (\w+)$", re.MULTILINE)


@cache
def load_script(name: str) -> str:
    """Return the text of `lua/{name}.lua` with its includes."""
    text = resources.files("coreset.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda match: load_script(match[1]), text)


class Scripts:
    """The Lua scripts on one Redis, each registered at its first call. Callers translate Redis's errors.

    Args:
        redis: a client from `coreset.redis.connection.connect`.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._registered: dict[str, Any] = {}

    def run(self, name: str, keys: list[str], arguments: list[Any]) -> Any:
        """Run `lua/{name}.lua` and return its answer as redis-py gives it."""
        if name not in self._registered:
            self._registered[name] = self._redis.register_script(load_script(name))
        return self._registered[name](keys=keys, args=arguments)
