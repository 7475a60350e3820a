"""The checkpoints whose influence is scored, as a job spec names them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from coreset.spec.base import FrozenModel, is_none
from coreset.spec.pool import Uri
from coreset.spec.training import TrainSpec


class CheckpointFile(FrozenModel):
    """One checkpoint file, or just its URI; step and lr override those of the file."""

    uri: Uri
    step: int | None = Field(default=None, ge=1)
    lr: float | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _just_a_uri(cls, value: Any) -> Any:
        return {"uri": value} if isinstance(value, str) else value


class CheckpointsSpec(FrozenModel):
    """The checkpoints of one training run: an open_clip run directory, a list of files, or a run to be trained.

    Attributes:
        run: the directory with params.txt and checkpoints/epoch_K.pt.
        files: explicit checkpoint files, in training order.
        train: train a small CLIP on the pool first; `{}` for the defaults.
        last: use only the last m checkpoints.
        horizon: the last checkpoint that diffin, diffin_eq9 and tracin use: `last`, the step of a checkpoint, or
            `auto`: chosen from the validation loss at every checkpoint (docs/method.md). With the training as target
            there is no held-out loss, and `auto` is `last`.
    """

    run: Uri | None = Field(default=None, examples=["logs/demo"])
    files: list[CheckpointFile] | None = Field(default=None, min_length=1, max_length=1000)
    train: TrainSpec | None = Field(default=None, exclude_if=is_none, examples=[{}])
    last: int | None = Field(default=None, ge=1)
    horizon: Literal["auto", "last"] | Annotated[int, Field(ge=1)] = "auto"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.run, self.files, self.train].count(None) != 2:
            raise ValueError(
                "give exactly one of `run` (an open_clip run directory), `files` (a list) and `train` (a run to be "
                "trained, `{}` for the defaults)"
            )
        if self.train and self.last is not None:
            raise ValueError("`last` chooses among checkpoints that exist; give `train.checkpoints`, their number")
        if self.train and not isinstance(self.horizon, str):
            raise ValueError(
                f"`horizon` is step {self.horizon}, and a run that is still to be trained has no steps to name; give "
                "`auto` or `last`"
            )
        return self
