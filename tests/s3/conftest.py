"""A real S3 server behind a proxy that spoils its answers as a test asks."""

from collections.abc import Iterator

import pytest

from tests.s3.faulty_proxy import FaultyProxy
from tests.s3.server import new_bucket, s3_server, taken_for_s3


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with s3_server() as port:
        yield port


@pytest.fixture
def proxy(s3_port: int) -> Iterator[FaultyProxy]:
    with taken_for_s3(s3_port) as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: FaultyProxy) -> str:
    return new_bucket()
