"""Writers of a job's files: parts, thumbnails, report, shards."""

from coreset_workers.outputs import parts, report, shards, thumbnails

__all__ = ["parts", "report", "shards", "thumbnails"]
