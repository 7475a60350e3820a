"""The stages of a job, one module per stage, and the preflight."""

from coreset_workers.stages import (
    calibrate,
    conclude,
    finish,
    merge,
    plan,
    preflight,
    prepare,
    score,
    scorer,
    train_run,
)

__all__ = ["calibrate", "conclude", "finish", "merge", "plan", "preflight", "prepare", "score", "scorer", "train_run"]
