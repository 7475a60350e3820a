"""Secrets stay out of texts, logs, errors and jobs, whatever stands around them."""

import json
import logging
import string
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import example, given
from hypothesis import strategies as st

from coreset.errors import InvalidInput
from coreset.logs import configure
from coreset.queue.job_store import JobStore, new_job_id
from coreset.redaction import KEY_PREFIX, MASK, redact, redact_all, redact_model
from coreset.schemas.job import JobStatus, Reason
from coreset.spec.job import JobSpec

URL_SAFE = string.ascii_letters + string.digits + "-_"
SECRET = st.text(URL_SAFE, min_size=20, max_size=60)
BETWEEN = st.sampled_from(["", " ", "\n", '"', "'", " (", ") ", ", ", "<", ">"])
WORD = st.text(string.ascii_lowercase, min_size=1, max_size=10)
PLAIN = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="@?"), max_size=40)

SIGNED = "https://b.s3.amazonaws.com/pool/{number}.tar?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261123&X-Amz-Signature={secret}"
CARRIERS = [
    KEY_PREFIX + "{secret}",
    "Authorization: Bearer {secret}",
    "authorization: {secret}",
    "{{'Authorization': 'Basic {secret}'}}",
    "Bearer {secret}",
    "https://user:{secret}@host.example/pool/{number}.tar",
    "https://{secret}@host.example/pool/{number}.tar",
    "redis://:{secret}@redis.example:6379/0",
    "s3://AKIAIOSFODNN7EXAMPLE:{secret}/with/slashes@bucket/pool/{number}.tar",
    SIGNED,
    "https://host.example/a.tar?sig={secret}&se=2026",
    "hf_" + "{secret:.0}{letters}",
    "whsec_{secret}",
]


@given(st.sampled_from(CARRIERS), SECRET, PLAIN, BETWEEN, BETWEEN, PLAIN, st.text(string.ascii_letters, min_size=24))
@example(SIGNED, "a" * 64, "", "", "", "", "x" * 24)
def test_no_secret_is_left(
    carrier: str, secret: str, before: str, left: str, right: str, after: str, letters: str
) -> None:
    text = f"{before}{left or ' '}{carrier.format(secret=secret, letters=letters, number=0)}{right or ' '}{after}"
    redacted = redact(text)
    hidden = letters if "{letters}" in carrier else secret
    assert redacted.count(hidden) <= (before + after).count(hidden)
    assert MASK in redacted
    assert redact(redacted) == redacted


@given(st.lists(WORD, min_size=1, max_size=6).map("/".join), st.sampled_from(["s3://", "https://", "/", "hf://"]))
def test_what_holds_no_secret_is_unchanged(path: str, head: str) -> None:
    for text in (f"{head}{path}", f"cannot open {head}{path}: not found", f"{head}{path}.tar::{head}{path}2.tar"):
        assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "hf://datasets/org/name@main/pool/{000000..000123}.tar",
        "s3://bucket/a@b.tar",
        "http://host:8080/a@b.tar",
        "give a bearer token",
        "what is a?",
        "mail someone@example.org",
    ],
)
def test_what_looks_a_little_like_one_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_the_place_stays_readable() -> None:
    assert redact("https://u:p@h.example/a.tar?sig=1 is gone") == f"https://{MASK}@h.example/a.tar?{MASK} is gone"


@given(SECRET, st.sampled_from(["authorization", "aws_secret_access_key", "password", "api_key", "Set-Cookie"]))
def test_what_is_called_a_secret_is_one(secret: str, name: str) -> None:
    assert secret not in json.dumps(redact_all({"a": [{name: secret}, {"uri": f"s3://k:{secret}@b/x"}]}))


@pytest.fixture
def logged() -> Iterator[None]:
    config, handlers, level = structlog.get_config(), logging.root.handlers, logging.root.level
    yield
    structlog.configure(**config)
    logging.root.handlers, logging.root.level = handlers, level
    logging.captureWarnings(False)


@pytest.mark.usefixtures("logged")
@pytest.mark.parametrize("kind", ["json", "console"])
def test_logs_hold_no_secret(kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.excepthook", None)  # configure sets it; monkeypatch puts it back
    configure(kind)  # pyright: ignore[reportArgumentType]
    signed = SIGNED.format(number=0, secret="0f1e2d3c")
    try:
        raise OSError(signed)
    except OSError as error:
        structlog.get_logger("x").exception("cannot open", uri=signed, api_key="csk_abc", problem=error)
        logging.getLogger("foreign").warning("GET %s", signed)
    reported = capsys.readouterr().err
    assert "0f1e2d3c" not in reported
    assert "csk_abc" not in reported
    assert "pool/0.tar" in reported
    if kind == "json":
        assert all(json.loads(line) for line in reported.splitlines())


def test_errors_hold_no_secret() -> None:
    error = InvalidInput("https://h.example/a.tar?sig=1 is gone", uri="https://h.example/a.tar?sig=1")
    assert str(error) == error.detail == f"https://h.example/a.tar?{MASK} is gone"
    assert error.data == {"uri": f"https://h.example/a.tar?{MASK}"}


def test_jobs_tell_no_secret_and_keep_their_spec(store: JobStore, spec: JobSpec) -> None:
    signed = SIGNED.format(number=0, secret="0f1e2d3c")
    pool = spec.pool.model_copy(update={"shards": [signed]})
    job = store.create(spec.model_copy(update={"pool": pool}), new_job_id())
    store.warn(job.id, f"{signed} is slow")
    store.shards.fail(job.id, 0, signed, f"{signed} is gone")
    store.transition(job.id, JobStatus.FAILED, Reason(code="x", message=f"{signed} is gone"))
    reported = store.get(job.id)
    assert reported.spec.pool.shards == [signed]  # workers read it
    reported = redact_model(reported)
    news = store.events(job.id)
    assert "0f1e2d3c" not in reported.model_dump_json() + repr(news)
    assert reported.spec.reference == job.spec.reference
