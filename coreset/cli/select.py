"""`coreset select`: a further coreset from a job's scores."""

from coreset.cli import selection_options as options
from coreset.cli.options import DEFAULT_URL, AsJson, JobId, Key, Out, Url
from coreset.cli.output import error_reporting, print_json
from coreset.cli.results import save
from coreset.cli.selection_options import conditions, given, group_limit, groupings, read_selection, weights
from coreset.cli.tables import show_selection
from coreset.client import Client


def select(
    job_id: JobId,
    k: options.Size = None,
    fraction: options.Fraction = None,
    threshold: options.Threshold = None,
    by: options.By = None,
    recipe: options.Recipe = None,
    combine: options.Combine = None,
    within: options.Within = None,
    scale: options.Scale = None,
    winsorise: options.Winsorise = None,
    filters: options.Filters = None,
    quota: options.Quota = None,
    distinct: options.Distinct = None,
    temperature: options.Temperature = None,
    max_repeats: options.MaxRepeats = None,
    seed: options.Seed = None,
    spec: options.SpecFile = None,
    out: Out = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Select a further coreset from a job's scores, in seconds and without a GPU. All ways: docs/selection.md."""
    with error_reporting(), Client(url, api_key) as client:
        wanted = read_selection(spec) | given(
            k=k,
            fraction=fraction,
            threshold=threshold,
            by=weights(by) if by is not None else None,
            recipe=recipe,
            combine=combine,
            scale=scale,
            within=groupings(within) if within is not None else None,
            winsorise=winsorise,
            filters=conditions(filters) if filters else None,
            distinct=distinct,
            quota=group_limit(quota) if quota else None,
            sampling=given(temperature=temperature, max_repeats=max_repeats, seed=seed) or None,
        )
        selection = client.select(job_id, wanted)
        save(client, selection, out)
        print_json(selection) if as_json else show_selection(selection)
