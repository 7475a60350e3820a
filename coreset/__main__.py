"""`coreset`, or `python -m coreset`."""

import os
from typing import TYPE_CHECKING

from coreset.cli import app
from coreset.cli.up import UpContext

if TYPE_CHECKING:
    from coreset.settings import StackSettings


def main() -> None:
    app(obj=UpContext(settings=stack_settings, environment=dict(os.environ)))


def stack_settings() -> "StackSettings":
    from coreset.settings import StackSettings  # only here: a client's install has no pydantic-settings

    return StackSettings()


if __name__ == "__main__":
    main()
