"""Types and bounds of JSON schemas in words, for the reference pages."""

import json
from typing import Any, cast

Schema = dict[str, Any]


def type_of(schema: Schema) -> str:
    """Return the name of a schema's type; that of a model is the model's name."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for one_of in ("anyOf", "oneOf"):
        if one_of in schema:
            return " or ".join(type_of(option) for option in schema[one_of])
    if "enum" in schema or "const" in schema:
        return " or ".join(json.dumps(value) for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "anything"))
    if kind == "array" and "items" in schema:
        return f"list of {type_of(schema['items'])}"
    if kind == "object":
        patterns = cast(Schema, schema.get("patternProperties", {}))
        values = schema.get("additionalProperties") or next(iter(patterns.values()), None)
        return f"mapping to {type_of(cast(Schema, values))}" if isinstance(values, dict) else "mapping"
    return kind


LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
    "minItems": "{} or more",
    "maxItems": "{} or fewer",
    "maxLength": "{} characters or fewer",
    "pattern": "as {}",
}


def limits_of(schema: Schema) -> list[str]:
    """Return a value's bounds and its default, as phrases."""
    options = [schema, *schema.get("anyOf", [])]
    bounds = [
        words.format(_plain(option[name])) for option in options for name, words in LIMITS.items() if name in option
    ]
    return bounds + ([f"default {json.dumps(schema['default'])}"] if schema.get("default") is not None else [])


def _plain(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound
