"""What grows with a job: the queue, the workers' efficiency, the selection. `python -m benchmarks.scale --json OUT`."""
