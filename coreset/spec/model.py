"""Models and their parameters, as a job spec names them."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from coreset.spec.base import FrozenModel, is_none

ModelName = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Name of a model, without control characters."""


class ModelSpec(FrozenModel):
    """The architecture, for runs whose params.txt and open_clip_config.json do not name it.

    Attributes:
        name: an open_clip model name, for example ViT-B-32.
        config: open_clip's model config (embed_dim, vision_cfg, text_cfg), for architectures of your own.
    """

    name: ModelName | None = Field(default=None, examples=["ViT-B-32"])
    config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.name is None and self.config is None:
            raise ValueError("a model needs `name`, `config`, or both")
        return self


class ClipModelSpec(FrozenModel):
    """The model behind clip_score and neg_clip_loss, if it is not the run's last checkpoint.

    Attributes:
        name: an open_clip model name.
        pretrained: a tag of open_clip's, or the URI of a weights file.
        checkpoint: another checkpoint of the run instead: its step, `last`, or `horizon`, the one up to which influence
            is traced.
    """

    name: ModelName | None = Field(default=None, examples=["ViT-B-32"])
    pretrained: str | None = Field(default=None, min_length=1, max_length=4096, examples=["laion2b_s34b_b79k"])
    checkpoint: Literal["last", "horizon"] | Annotated[int, Field(ge=1)] | None = Field(
        default=None, exclude_if=is_none
    )

    @model_validator(mode="after")
    def _weights_or_checkpoint(self) -> Self:
        if self.checkpoint is None and (self.name is None or self.pretrained is None):
            raise ValueError("give `name` and `pretrained`, or `checkpoint`: a checkpoint of the run")
        if self.checkpoint is not None and (self.name or self.pretrained):
            raise ValueError("give either `name` and `pretrained`, or `checkpoint`")
        return self


class ParametersSpec(FrozenModel):
    """The parameters that count: influence is that of training these alone, with the others fixed.

    The layers before the first of them run once per sample and checkpoint, not once per point.

    Attributes:
        last_blocks: n: the last n blocks of each tower and the layers after them (norms, projections, scale).
        names: patterns of parameter names, for example `visual.transformer.resblocks.11.*`.
    """

    last_blocks: int | None = Field(default=None, ge=1, le=1000, examples=[2])
    names: list[str] | None = Field(default=None, min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.last_blocks is None) == (self.names is None):
            raise ValueError("give either `last_blocks` or `names`, or leave `parameters` out to count all")
        return self
