"""Rejection of relative paths in a job spec that came over HTTP: they would be resolved in the workers' folder."""

from coreset.access.locations import is_relative, places_in
from coreset.errors import InvalidSpec
from coreset.spec.job import JobSpec


def require_absolute(spec: JobSpec) -> None:
    """Raise InvalidSpec, naming the first path of the spec that is relative."""
    for place in places_in(spec):
        if is_relative(place):
            raise InvalidSpec(
                f"{place[:200]} is a relative path; expected an absolute path as the workers see it, or a URI such as "
                "s3://bucket/name. The command line makes paths absolute by itself.",
                path=place[:200],
            )
