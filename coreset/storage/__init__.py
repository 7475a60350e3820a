"""Files of plans and jobs, on a folder or an object store."""
# pyright: reportUnsupportedDunderAll=false

__all__ = ["layout", "plan_files", "plan_references", "storage", "target_clusters", "thumbnails", "trials", "verified"]
