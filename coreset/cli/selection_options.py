"""Options of `coreset select`, and how their texts are read."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from coreset.errors import InvalidInput
from coreset.spec.json_text import parse_json
from coreset.spec.selection import Recipe as RecipeName

RULE = re.compile(r"(?P<field>[\w-]+)\.(?P<rule>\w+)=(?P<value>.*)")

Size = Annotated[int | None, typer.Option("--k", min=1, help="number of samples to keep")]
Fraction = Annotated[float | None, typer.Option(help="share of the rankable samples to keep")]
Threshold = Annotated[float | None, typer.Option(help="lowest ranking value to keep")]
By = Annotated[str | None, typer.Option(help="a score, or weights: diffin=1,clip_score=1", show_default=False)]
Recipe = Annotated[
    RecipeName | None,
    typer.Option(
        help="a rule by its name; the default without --by, --combine, --scale and --within", show_default=False
    ),
]
Combine = Annotated[
    Literal["mix", "intersection", "union"] | None, typer.Option(help="how several scores are combined")
]
Within = Annotated[
    str | None, typer.Option(metavar="SCORE=COLUMN,...", help="rank a score within groups; '': among all samples")
]
Scale = Annotated[
    Literal["rank", "zscore", "raw"] | None, typer.Option(help="what is combined: ranks, z-scores or raw scores")
]
Winsorise = Annotated[float | None, typer.Option(help="share of each score's extremes to clip")]
Filters = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="COLUMN.RULE=VALUE",
        help="condition on a column: min, max, min_rank, max_rank, any_of, none_of; may be repeated",
    ),
]
Quota = Annotated[
    str | None,
    typer.Option(metavar="FIELD.RULE=VALUE", help="limit per group: max, max_share, balance, shares (a:0.5,b:0.2)"),
]
Distinct = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="deduplicate: one sample of each label before a second of any")
]
Temperature = Annotated[float | None, typer.Option(help="sample at random, at this temperature")]
MaxRepeats = Annotated[int | None, typer.Option(min=1, help="largest number of draws of one sample")]
Seed = Annotated[int | None, typer.Option(min=0, help="seed of the sampling")]
SpecFile = Annotated[Path | None, typer.Option(help="selection as a JSON file; other options override it")]


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, by name."""
    return {name: value for name, value in options.items() if value is not None}


def read_selection(path: Path | None) -> dict[str, Any]:
    """Return the selection of a JSON file, empty without one. Raises InvalidInput."""
    if path is None:
        return {}
    try:
        return dict(parse_json(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError) as error:
        raise InvalidInput(f"--spec {path} is not a file with a JSON object: {error}") from error


def weights(text: str) -> dict[str, float]:
    """Read `diffin=1,clip_score=0.5`; a score without a weight counts 1. Raises InvalidInput."""
    weights: dict[str, float] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, weight = item.partition("=")
        try:
            weights[name.strip()] = float(weight) if weight else 1.0
        except ValueError as error:
            raise InvalidInput(
                f"--by has the weight {weight!r}; expected a number, as in diffin=1,clip_score=1"
            ) from error
    return weights


def groupings(text: str) -> dict[str, str]:
    """Read `clip_score=cluster,loss=cluster`; an empty text is no grouping at all. Raises InvalidInput."""
    pairs = [item.partition("=") for item in text.split(",")] if text.strip() else []
    if not all(score and column for score, _, column in pairs):
        raise InvalidInput(f"unknown --within {text!r}; expected SCORE=COLUMN,..., for example clip_score=cluster")
    return {score.strip(): column.strip() for score, _, column in pairs}


def conditions(texts: list[str]) -> dict[str, dict[str, Any]]:
    """Read filters such as `clip_score.min=0.2`, by column and rule. Raises InvalidInput."""
    found: dict[str, dict[str, Any]] = {}
    for text in texts:
        field, rule, value = _split("--filter", text)
        labels = rule in ("any_of", "none_of")
        found.setdefault(field, {})[rule] = value.split(",") if labels else _value(value)
    return found


def group_limit(text: str) -> dict[str, Any]:
    """Read a quota such as `cluster.max_share=0.1` or `source.shares=a:0.5,b:0.2`. Raises InvalidInput."""
    field, rule, value = _split("--quota", text)
    if rule != "shares":
        return {"field": field, rule: _value(value)}
    pairs = (pair.rpartition(":") for pair in value.split(","))
    return {"field": field, rule: {label: _value(share) for label, _, share in pairs}}


def _split(option: str, text: str) -> tuple[str, str, str]:
    found = RULE.fullmatch(text)
    if found is None:
        raise InvalidInput(f"unknown {option} {text!r}; expected COLUMN.RULE=VALUE, for example clip_score.min=0.2")
    return found["field"], found["rule"], found["value"]


def _value(text: str) -> float | int | str:
    """Return a number, or the text unchanged: the service validates it."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
