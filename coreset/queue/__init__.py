"""Jobs and tasks in Redis and RQ: the only room that knows either."""
# pyright: reportUnsupportedDunderAll=false

__all__ = [
    "connection",
    "counters",
    "event_entries",
    "job_listing",
    "job_store",
    "keys",
    "locks",
    "merge_tree",
    "page_tokens",
    "progress",
    "scripts",
    "task_ids",
    "task_queue",
]
