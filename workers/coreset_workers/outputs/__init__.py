"""Writers of a job's files: parts, thumbnails, report, shards."""

from coreset_workers.outputs import kept, parts, report, shards, thumbnails

__all__ = ["kept", "parts", "report", "shards", "thumbnails"]
