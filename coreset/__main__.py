"""`coreset`, or `python -m coreset`."""

import os

from coreset.cli import app
from coreset.cli.up import UpContext
from coreset.settings import StackSettings


def main() -> None:
    app(obj=UpContext(settings=StackSettings(), environment=dict(os.environ)))


if __name__ == "__main__":
    main()
