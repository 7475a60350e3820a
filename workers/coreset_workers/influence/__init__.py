"""Influence by one plan: directions, passes, clusters, and the files that scoring reads."""

from coreset_workers.influence import clusters, finite, passes, prepared_files, self_influence, trace

__all__ = ["clusters", "finite", "passes", "prepared_files", "self_influence", "trace"]
