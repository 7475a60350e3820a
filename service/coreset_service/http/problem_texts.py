"""What each problem type means and what to do about it: served at its address, and written to docs/problems.md."""

from collections.abc import Mapping
from typing import NamedTuple


class Text(NamedTuple):
    """Attributes:
    when: what has happened.
    mend: what the caller or the operator can do.
    members: what the problem holds besides type, title, status, detail and request_id.
    """

    when: str
    mend: str
    members: str = ""


TEXTS: dict[str, Text] = {
    "accuracy-not-met": Text(
        "A job has measured its scores against exact float64 derivatives, in the highest precision too, and they did "
        "not agree. It is the reason of a failed job.",
        "`detail` names the estimator, the checkpoint and the figures. Leave `diffin_eq9` out of `scores` for networks "
        "with ReLU, leave the checkpoint out, or count fewer `parameters`.",
    ),
    "address-forbidden": Text(
        "A URL in the spec leads to this machine, to a private network or to a cloud's own address.",
        "Give a public address. An operator may allow private ones for webhooks: `CORESET_WEBHOOK_PRIVATE=true`.",
        "`host`",
    ),
    "bad-request": Text(
        "The request is not HTTP as it should be, for example a body that ends too early.", "Correct the request."
    ),
    "body-too-large": Text(
        "The body has more bytes than the service takes (`CORESET_MAX_BODY_BYTES`, 1 MiB unless set).",
        "Name shards by brace ranges, `{000000..000999}`, not one by one.",
    ),
    "checkpoint-unusable": Text(
        "A checkpoint cannot be read, does not fit the architecture, holds numbers that are not finite, or its step or "
        "learning rate cannot be found. In an answer to `validate_only`, or the reason of a failed job.",
        "Correct or leave out the checkpoint that `uri` names; give `step` and `lr` in `checkpoints.files`; give "
        "`model` if the run's own files do not name the architecture.",
        "`uri`, `model`",
    ),
    "conflict": Text(
        "The job's state does not allow it: a result before it has succeeded, a cancel after its end, a deletion "
        "before it; or the job of an Idempotency-Key was deleted.",
        "Look at the job (`GET /v1/jobs/{id}`), wait (`?wait=60`), then ask again. For a new job take a new key.",
        "`id`, `status`",
    ),
    "http-error": Text("Any other HTTP error.", "See `status` and `detail`."),
    "internal-error": Text(
        "A fault of the service or of a worker. Its text is in the log only.",
        "Give the operator the `request_id`; the log has the rest. Asking again may help.",
    ),
    "invalid-input": Text(
        "A parameter, a header or a page token is not valid, or an Idempotency-Key came with another spec before.",
        "`errors` names each field. Leave a refused `page_token` out; take a new key for a new spec.",
        "`errors`: list of `field` and `message`; `field`, `id`",
    ),
    "forbidden": Text(
        "The key's scopes do not allow it, or the request comes from another site's page, or, without keys, to a name "
        "that is not a local one.",
        "`needed` names the scope. Ask the operator for a key with it; without keys, use an address or a local name.",
        "`needed`",
    ),
    "invalid-spec": Text(
        "The body is not valid: no JSON, an unknown field, a missing one, a value out of range, fields that do not go "
        "together.",
        "`errors` names each field and what is wrong with it. Unknown fields are refused, so look for typing errors.",
        "`errors`: list of `field` and `message`; `field`",
    ),
    "location-forbidden": Text(
        "A path or URI in the spec is none that workers may read: another scheme, outside the allowed folders and "
        "prefixes, `..`, a link or a redirect that leads out, credentials, a private network.",
        "`detail` says which and why. Operators allow folders and prefixes by `CORESET_ALLOWED_URIS`.",
        "`uri`",
    ),
    "method-not-allowed": Text("The address is right, the method is not.", "See `Allow` in the headers, and /docs."),
    "not-acceptable": Text(
        "The request's `Accept` header names none of the forms that the answer can have.",
        "Leave the header out, or name one of those in the description of the address (/docs).",
    ),
    "not-found": Text(
        "There is no such job, selection, file or address. Deleted and expired jobs are not there any more.",
        "Look for the id with `GET /v1/jobs`.",
        "`id`, `name`, `slug`",
    ),
    "damaged-file": Text(
        "A file in the storage is not what was written: a bit has flipped, or it was cut off or removed. No "
        "other result is made of it. In an answer; or the reason of a failed job, if the file was damaged again after "
        "its repair.",
        "Post the same spec again: what is damaged is made again, and the rest is used as it is. `coreset doctor JOB` "
        "lists all damaged files.",
        "`name`, `why`",
    ),
    "pool-unusable": Text(
        "The pool holds too little to work with: no sample, fewer than the reference batch needs, or none of the first "
        "samples can be scored.",
        "`key` names a sample and `detail` what it lacks. Shards need KEY.jpg (png, jpeg, webp) and KEY.txt, or a "
        "`caption_field` in KEY.json.",
        "`uri`, `key`",
    ),
    "queue-full": Text(
        "As many tasks wait as may wait (`CORESET_MAX_WAITING_TASKS`).",
        "Post the job again after `Retry-After` seconds.",
        "`retry_after`",
    ),
    "request-timeout": Text(
        "The body did not arrive within 30 seconds after the request's head.",
        "Send the request again; a spec of a megabyte takes less than a second on most networks.",
    ),
    "shard-unreadable": Text(
        "A shard is not there, cannot be opened, or is not a tar. In an answer to `validate_only`, or the reason of a "
        "failed job.",
        "Repair or leave out the shards that are named, or allow some to fail: `max_failed_shards`.",
        "`uri`, `shards`",
    ),
    "stored-specs-full": Text(
        "The specs of this key's jobs, of the ended ones too, have as many bytes as they may "
        "(`CORESET_MAX_SPEC_BYTES`; each counts for 4 KiB at least).",
        "Delete ended jobs (`DELETE /v1/jobs/{id}`), or give jobs a `ttl_seconds_after_finished`; name shards by "
        "brace ranges.",
        "`retry_after`",
    ),
    "too-many-open-jobs": Text(
        "As many jobs of this key have not ended as may be open (`CORESET_MAX_OPEN_JOBS`).",
        "Wait until one has ended, or cancel one.",
        "`retry_after`",
    ),
    "too-many-requests": Text(
        "The key has made more requests in a minute than it may, or the address more without a valid key "
        "(`CORESET_RATE_PER_MINUTE`); or the caller has sent too many bytes in a minute, or has too many requests in "
        "progress.",
        "Wait `Retry-After` seconds; poll by `wait` or by events.",
        "`retry_after`",
    ),
    "unauthorized": Text(
        "There is no API key, or it is not a valid one.",
        "Send `Authorization: Bearer KEY`; in a browser, go to /login. Operators make keys with `coreset key new`.",
    ),
    "unsupported-media-type": Text(
        "The body is compressed, or its `Content-Type` is missing or other than JSON.",
        "Send plain JSON with `Content-Type: application/json` and without `Content-Encoding`.",
    ),
    "unavailable": Text(
        "Redis, the storage or all workers are away or busy, or Redis takes no writes. Nothing was started, or "
        "what was started goes on.",
        "Ask again after `Retry-After` seconds; a POST with its Idempotency-Key makes no second job. "
        "`check: running` says that a preflight is being made: the same request again waits for it.",
        "`check`: `running` or `waiting`; `cause`: Redis's own code in lower case, for example `oom`, `readonly`",
    ),
}

REASONS: dict[str, str] = {
    "cancelled-by-caller": "Somebody has cancelled the job.",
    "task-failed": "A task of the job has failed three times, or its workers died under it; the workers' logs say why.",
    "unreadable": "This version cannot read the job's record, which another version wrote; its status is `unreadable`. "
    "Upgrade the service, or delete the job.",
}
"""Codes of a job's `reason` that are no problem types."""

_HEAD = (
    "Every error is `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type`, `title`, "
    "`status`, `detail` (what is wrong and the way out), `request_id`, and members of its type's own. `type` does not "
    "change between versions; decide by it, not by the texts. It is an address of the service: "
    "`GET /problems/not-found` says what stands here.\n\n"
    "The same types, without `/problems/`, are the `reason.code` of a job that failed. Other codes of a reason:"
)


def problems_page(types: Mapping[str, tuple[str, int]]) -> str:
    """Return docs/problems.md.

    Args:
        types: title and status by type.
    """
    reasons = [f"| `{code}` | {text} |" for code, text in sorted(REASONS.items())]
    made = "Written by `make api-docs` from `service/coreset_service/http/problem_texts.py`."
    sections = [_section(slug, *types[slug]) for slug in sorted(types)]
    return "\n\n".join(["# Problems", _HEAD, "\n".join(["| code | |", "|---|---|", *reasons]), made, *sections]) + "\n"


def _section(slug: str, title: str, status: int) -> str:
    text = TEXTS[slug]
    members = [f"Members: {text.members}."] if text.members else []
    said = [f"## {slug}", f"{status}, “{title}”. {text.when}", f"What to do: {text.mend}", *members]
    return "\n\n".join(said)
