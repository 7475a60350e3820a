"""The worker process: lease, runtime, activity and what it reports."""
