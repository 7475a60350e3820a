"""Jobs and tasks in Redis and RQ: the only room that knows RQ."""
# pyright: reportUnsupportedDunderAll=false

__all__ = [
    "event_entries",
    "job_listing",
    "job_store",
    "merge_tree",
    "page_tokens",
    "progress",
    "task_ids",
    "task_queue",
]
