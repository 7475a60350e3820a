"""A real S3 server (moto's), and a proxy before it that this process and its children take for S3."""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import s3fs
from moto.server import ThreadedMotoServer

from tests.s3.faulty_proxy import FaultyProxy


@contextmanager
def s3_server() -> Iterator[int]:
    """Yield its port."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@contextmanager
def taken_for_s3(port: int) -> Iterator[FaultyProxy]:
    """Yield a proxy that the environment names as S3's address."""
    before = dict(os.environ)
    with FaultyProxy(port) as proxy:
        os.environ.update(
            AWS_ENDPOINT_URL=proxy.url,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION="us-east-1",
        )
        forget_connections()
        try:
            yield proxy
        finally:
            os.environ.clear()
            os.environ.update(before)
            forget_connections()


def forget_connections() -> None:
    """Make what is opened next look at the environment anew, and know nothing of any bucket, as another process."""
    for kind in (s3fs.S3FileSystem, *s3fs.S3FileSystem.__subclasses__()):
        kind.clear_instance_cache()


def new_bucket() -> str:
    """Return the URI of a new bucket."""
    name = f"bucket-{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"
