"""The base of all models of the contract."""

from pydantic import BaseModel, ConfigDict


class FrozenModel(BaseModel):
    """An immutable model that rejects unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def is_none(value: object) -> bool:
    """Return whether a field is left out of the JSON, so that specs and plans older than the field stay as they are."""
    return value is None
