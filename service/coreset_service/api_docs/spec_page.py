"""docs/spec.md: the reference of the job spec, from the schemas of the OpenAPI description."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

from coreset.spec.scores import SCORES
from coreset_service.api_docs.schema_words import Schema, limits_of, type_of

HEAD = """# The job spec

Every field of the body of `POST /v1/jobs` and of `job.json`. Unknown fields are rejected. \
This page is made from the code by `make api-docs`; [selection.md](selection.md), [cleaning.md](cleaning.md) \
and [evaluation.md](evaluation.md) have examples of their fields.

Shards alone ([training-run.md](training-run.md)):

```json
{"pool": {"shards": ["pool/{000000..000005}.tar"]}, "checkpoints": {"train": {}}, "select": {"fraction": 0.3}}
```

With a validation target, a filter and an evaluation:

```json
{"pool": {"shards": ["pool/{000000..000005}.tar"], "metadata": ["language"]},
 "checkpoints": {"run": "logs/demo"},
 "target": {"pool": {"shards": ["validation.tar"]}, "size": 256},
 "select": {"fraction": 0.3, "by": {"diffin": 1, "clip_score": 1}, "filters": {"clip_score": {"min": 0.1}}},
 "evaluate": {"test": {"shards": ["held_out.tar"]}, "seeds": 3}}
```
"""


def spec_page(description: Schema) -> str:
    """Return the page for an OpenAPI description: a table of fields for JobSpec and each model below it."""
    schemas = cast(dict[str, Schema], description["components"]["schemas"])
    sections = [_section(name, schemas) for name in _reachable(schemas)]
    return "\n".join([HEAD, *sections])


def _reachable(schemas: dict[str, Schema]) -> list[str]:
    """Return JobSpec and the models that it uses, each once, in the order of first use."""
    names = ["JobSpec"]
    for name in names:
        names += [used for used in dict.fromkeys(_references(schemas[name])) if used not in names]
    return names


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in cast(list[Any], schema):
            yield from _references(item)
    elif isinstance(schema, dict):
        for name, value in cast(Schema, schema).items():
            if name == "$ref":
                yield str(value).rsplit("/", 1)[-1]
            else:
                yield from _references(value)


def _scores() -> str:
    rows = [f"| `{score.value}` | {info.label} | {info.meaning} |" for score, info in SCORES.items()]
    return "\n".join(
        ["## Score", "", "Higher means keep.", "", "| score | name | meaning |", "|---|---|---|", *rows, ""]
    )


def _section(name: str, schemas: dict[str, Schema]) -> str:
    schema = schemas[name]
    text, fields = _parsed(schema.get("description", ""))
    if name == "Score":
        return _scores()
    required = schema.get("required", [])
    lines = [
        f"| `{field}`{' (required)' if field in required else ''} | {_type(each)} "
        f"| {_cell(each.get('description') or fields.get(field) or _of_its_model(each, schemas), each)} |"
        for field, each in schema["properties"].items()
    ]
    return "\n".join([f"## {name}", "", text, "", "| field | type | meaning |", "|---|---|---|", *lines, ""])


def _of_its_model(field: Schema, schemas: dict[str, Schema]) -> str:
    """Return the first sentence of the model that a field contains, for fields without a description."""
    for name in _references(field):
        text, _ = _parsed(schemas[name].get("description", ""))
        return text.partition(". ")[0]
    return ""


def _parsed(docstring: str) -> tuple[str, dict[str, str]]:
    """Return a docstring's text without its section `Attributes`, and the meaning of each attribute."""
    text, _, attributes = docstring.partition("Attributes:\n")
    fields: dict[str, str] = {}
    for entry in re.split(r"\n {4}(?=\S)", "\n" + attributes.rstrip()):
        names, _, meaning = entry.strip().partition(": ")
        fields |= {field.strip(): " ".join(meaning.split()) for field in names.split(",")}
    return " ".join(text.split()), fields


def _type(schema: Schema) -> str:
    kinds = type_of(schema).split(" or ")
    words = " or ".join(kind for kind in kinds if kind != "null")
    return re.sub(r"\b[A-Z]\w+", lambda match: f"[{match[0]}](#{match[0].lower()})", words).replace("|", "\\|")


def _cell(meaning: str, schema: Schema) -> str:
    limits = [limit for limit in limits_of(schema) if not limit.startswith("as ^")]
    examples = [f"for example `{json.dumps(each)}`" for each in schema.get("examples", [])[:1]]
    return "; ".join([*([_linked(meaning)] if meaning else []), *limits, *examples]).replace("|", "\\|")


def _linked(meaning: str) -> str:
    return re.sub(r"^as in (\w+)$", lambda match: f"as in [{match[1]}](#{match[1].lower()})", meaning.rstrip("."))
