"""Training of a run in stretches: measured after each interval, continued where it was left, published at its end."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import structlog
import torch

from coreset.errors import DamagedFile, PoolUnusable
from coreset.schemas.training import HeldOutLoss, TrainedRun, TrainingPlan
from coreset.storage.layout import RunFolder
from coreset.storage.runs import find_run, save_run
from coreset.storage.storage import Storage
from coreset_workers.model.device import device_name
from coreset_workers.training.held_out import held_out_loss
from coreset_workers.training.loop import Training
from coreset_workers.training.placement import has_ended, lowest, patience, place
from coreset_workers.training.run_files import (
    Progress,
    load_progress,
    publish,
    recipe_of,
    save_progress,
    save_state,
)
from coreset_workers.training.samples import TrainingData

log = structlog.get_logger("coreset_workers.training")

SPARE = 2
"""States kept while training, as a multiple of the checkpoints wanted: the levels sink as the loss falls."""

Advance = Callable[[str, float], object]
"""Callback with the stage in words and the finished share of the schedule, 0 to 1; it raises to stop."""


@dataclass
class RunTrainer:
    """Trains one run. Equal runs get equal bits on one machine, wherever training is interrupted."""

    plan: TrainingPlan
    storage: Storage
    data: TrainingData
    device: torch.device
    advance: Advance
    _progress: Progress = field(default_factory=Progress)

    def train(self, seconds: float = math.inf) -> bool:
        """Train on from the last state, and return whether the run is complete.

        Args:
            seconds: stop after the interval in which so much time is over; one interval is trained at least.

        Raises:
            PoolUnusable: the held-out loss is not finite, or never falls.
        """
        plan, started = self.plan, time.monotonic()
        rows = np.arange(len(self.data.train))
        training = Training(plan.model, self.device, self.data.train, rows, recipe_of(plan))
        found = load_progress(self.storage, plan.id)
        if found is None:
            self._progress = Progress(losses=[self._measure(training)])
        else:
            self._progress, state = found
            if state is not None:
                training.load(state)
            log.info("training continues", run=plan.id, step=training.done)
        before = self._progress.seconds
        while not self._ended:
            self._interval(training, lambda: before + time.monotonic() - started)
            if find_run(self.storage, plan.id) is not None:  # another job's worker was faster
                self.storage.delete(RunFolder(plan.id).work)
                return True
            if time.monotonic() - started > seconds and not self._ended:
                return False
        try:
            self._publish()
        except DamagedFile:  # a state: the next stretch begins again
            self.storage.delete(RunFolder(plan.id).work)
            return False
        return True

    @property
    def _ended(self) -> bool:
        return self._progress.diverged or has_ended(self._progress.losses, self.plan.intervals)

    def _interval(self, training: Training, seconds: Callable[[], float]) -> None:
        """Train for an interval, measure, and save the state."""
        plan, last = self.plan, self._progress
        for _ in range(plan.interval_steps):
            training.step()
            self.advance(self._words(training.done), training.done / plan.steps)
        loss = self._measure(training)
        if not math.isfinite(loss):
            self._progress = last.model_copy(update={"diverged": True, "seconds": seconds()})
            save_progress(self.storage, plan.id, self._progress, last)
            return
        losses = [*last.losses, loss]
        interval = len(losses) - 1
        states = last.states | {interval: save_state(self.storage, plan, interval, training.state())}
        wanted = {*place(self._from_chance(losses), states, SPARE * plan.checkpoints), interval}
        states = {k: file for k, file in states.items() if k in wanted}
        self._progress = Progress(losses=losses, states=states, seconds=seconds())
        save_progress(self.storage, plan.id, self._progress, last)

    def _measure(self, training: Training) -> float:
        return held_out_loss(training.model, self.data.held_out)

    def _words(self, step: int) -> str:
        losses = self._progress.losses
        words = f"training a model: step {step:,} of up to {self.plan.steps:,}, held-out loss {losses[-1]:.3f}"
        return words + (f", lowest {losses[lowest(losses)]:.3f}" if len(losses) > 1 else "")

    def _publish(self) -> None:
        """Write the run, then the file that says that it is complete; its states are no longer needed."""
        plan, progress = self.plan, self._progress
        losses = progress.losses
        start = self._from_chance(losses)[0]
        if not min(losses[1:], default=math.inf) < start:
            raise PoolUnusable(
                f"training did not lower the held-out loss below {start:.3f}, that of a model that knows nothing"
                f"{', and diverged' if progress.diverged else ''}. Give another `checkpoints.train.lr`, or more "
                "`samples` or `samples_seen`."
            )
        intervals = place(self._from_chance(losses), progress.states, plan.checkpoints)
        files = publish(self.storage, plan, progress, intervals)
        per = plan.interval_steps
        run = TrainedRun(
            id=plan.id,
            run=self.storage.uri(RunFolder(plan.id).root),
            trained_on=len(self.data.train),
            held_out=len(self.data.held_out),
            held_out_source=self.data.held_out_source,
            losses=[HeldOutLoss(step=k * per, loss=loss) for k, loss in enumerate(losses)],
            steps=[k * per for k in intervals],
            samples_seen=progress.interval * per * plan.batch_size,
            stopped=self._why(),
            device=device_name(self.device),
            seconds=round(progress.seconds, 3),
        )
        save_run(self.storage, plan, run, files)
        self.storage.delete(RunFolder(plan.id).work)
        log.info("run trained", run=plan.id, steps=run.steps, seconds=run.seconds)

    def _from_chance(self, losses: list[float]) -> list[float]:
        """Return the losses with that of chance before training, if it is lower: random weights are wrong and sure.

        To unlearn that takes a few steps, and the checkpoints should lie where the model learns.
        """
        return [min(losses[0], math.log(len(self.data.held_out))), *losses[1:]]

    def _why(self) -> str:
        """Return why training stopped."""
        if self._progress.diverged:
            return "the held-out loss was no longer finite"
        if self._progress.interval < self.plan.intervals:
            return f"the held-out loss did not fall in {patience(self.plan.intervals)} measurements"
        return "the budget of samples seen was used up"
