"""Training of small CLIPs from scratch: the loop that proxies and trained runs share, and runs that a job trains."""

from coreset_workers.training import decoded, defaults, held_out, loop, placement, plan, run_files, samples, train

__all__ = ["decoded", "defaults", "held_out", "loop", "placement", "plan", "run_files", "samples", "train"]
