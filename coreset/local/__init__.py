"""Redis, service and workers on one machine, as child processes."""

from coreset.local.redis_server import EmbeddedRedis, find_server, free_port
from coreset.local.stack import LocalStack, check_free

__all__ = ["EmbeddedRedis", "LocalStack", "check_free", "find_server", "free_port"]
