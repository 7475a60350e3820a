"""The `coreset` command: its subcommands by group, with examples."""

import typer

from coreset.cli.convert import convert
from coreset.cli.doctor import doctor
from coreset.cli.evaluate import evaluate
from coreset.cli.forget import forget
from coreset.cli.jobs import cancel, check, delete, events, list_jobs, status, submit
from coreset.cli.key import key
from coreset.cli.local import demo, version
from coreset.cli.options import examples
from coreset.cli.output import EXIT_CODES
from coreset.cli.results import report, result
from coreset.cli.score import score
from coreset.cli.select import select
from coreset.cli.up import up

app = typer.Typer(
    name="coreset",
    help="Score image-text pools by training influence, and select coresets.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

HERE, JOBS, RESULTS = "This machine", "Jobs of a service", "Results"

app.command(rich_help_panel=HERE, epilog=examples("coreset up --port 8000 --data /data/coreset"))(up)
app.command(rich_help_panel=HERE, epilog=examples("coreset demo", "coreset demo --keep"))(demo)
app.command(rich_help_panel=HERE, epilog=examples("coreset score job.json --out results"))(score)
app.command(rich_help_panel=HERE, epilog=examples("coreset forget job.json --uids uids.txt --out forgotten.pt"))(forget)
app.command(
    rich_help_panel=HERE,
    epilog=examples(
        "coreset convert photos/metadata.csv --out shards", "coreset convert 'laion/*.parquet' --out s3://b/x"
    ),
)(convert)
app.command(rich_help_panel=HERE)(version)
app.add_typer(key, name="key", rich_help_panel=HERE)

app.command(rich_help_panel=JOBS, epilog=examples("coreset check job.json", "coreset check - --json < job.json"))(check)
app.command(
    rich_help_panel=JOBS,
    epilog=examples(
        "coreset submit job.json --wait",
        "id=$(coreset submit job.json --json | jq -r .id)",
        "coreset submit job.json --idempotency-key nightly-2026-11-25   # may be repeated: one job",
    ),
)(submit)
app.command(rich_help_panel=JOBS, epilog=examples("coreset status ID --wait", "coreset status ID --json"))(status)
app.command(rich_help_panel=JOBS, epilog=examples("coreset events ID", "coreset events ID --json --after 17-0"))(events)
app.command("list", rich_help_panel=JOBS, epilog=examples("coreset list --status scoring --json"))(list_jobs)
app.command(rich_help_panel=JOBS, epilog=examples("coreset cancel ID"))(cancel)
app.command(rich_help_panel=JOBS, epilog=examples("coreset delete ID"))(delete)
app.command(rich_help_panel=JOBS, epilog=examples("coreset doctor ID --mend"))(doctor)

app.command(rich_help_panel=RESULTS, epilog=examples("coreset result ID", "coreset result ID --out subset.npy"))(result)
app.command(rich_help_panel=RESULTS, epilog=examples("coreset report ID --open"))(report)
app.command(
    rich_help_panel=RESULTS,
    epilog=examples(
        "coreset evaluate ID --test 'held_out/{000000..000003}.tar'",
        "coreset evaluate job.json --test held_out.tar --fraction 0.1 --fraction 0.3 --seeds 5 --json",
    ),
)(evaluate)
app.command(
    rich_help_panel=RESULTS,
    epilog=examples(
        "coreset select ID --k 100000 --by diffin=1,clip_score=1 --out subset.npy",
        "coreset select ID --threshold 0.28 --scale raw --by clip_score",
        "coreset select ID --fraction 0.3 --filter clip_score.min=0.2 --filter metadata_language.any_of=en,de",
        "coreset select ID --k 100000 --quota cluster.max_share=0.05",
        "coreset select ID --k 100000 --temperature 0.05 --max-repeats 3 --seed 1",
        "coreset select ID --spec select.json",
    ),
)(select)
