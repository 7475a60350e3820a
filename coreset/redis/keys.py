"""The data model in Redis: every key of ours, each with the prefix `coreset:`. RQ owns `rq:*`.

    key                type    TTL    content                                           written by     read by
    jobs               zset    none   job ids by time of creation                       job_store      job_listing
    job:{id}           hash    none   status, spec, times, stage, counters, version     every change   job_listing
    job:{id}:outcomes  hash    none   shard -> done | failed; makes counts exact        shard_records  shard_records
    job:{id}:running   hash    none   shard -> "server-time fraction" while it runs     shard_records  job_listing
    job:{id}:failed    hash    none   shard -> FailedShard as JSON                      shard_records  job_listing
    job:{id}:devices   set     none   devices that the job's workers compute on         shard_records  job_listing
    job:{id}:trials    hash    none   trial of an evaluation -> its fraction, 0 to 1    task_counts    task_counts
    job:{id}:warnings  zset    none   texts by time                                     job_store      job_listing
    job:{id}:events    stream  none   type and data as JSON; the last 1000 or so        every change   job_store
    expiries           zset    none   job ids by the time of their deletion             job_store      removals
    removals           zset    none   deleted jobs whose files still exist              job_store      removals
    deliveries         zset    none   ended jobs with a webhook by their next try       job_store      Outbox
    delivery:{id}      hash    none   job_id, url, at, data (status, reason), attempts  job_store      Outbox
    idempotency:{key}  string  24 h   "job-id fingerprint"                              job_store      job_store
    open:{name}        set     none   ids of a caller's jobs; create drops ended ones   job_store      job_store
    spec_bytes         hash    none   bytes of the stored specs of each caller          job_store      job_store
    turn:{name}        string  short  a lock that expires by itself                     locks          locks
    probe              string  60 s   shows that Redis takes writes                     job_store      -
    checks             zset    none   `id caller` of waited-for checks by last poll     preflight_queuepreflight_queue
    totals             hash    none   counters of all jobs and workers                  every change   counters
    worker:{name}      string  short  a live worker's report as JSON                    counters       counters

Fields of the record: id, status, reason_code, reason_message, spec, priority, request_id, plan_id, created_at,
started_at, scoring_at, reducing_at, ended_at (seconds of the server's clock), stage, prepare_fraction, reduce_fraction,
tasks, trials, evaluates, shards_total, shards_done, shards_failed, shards_resumed, samples_read, samples_scored,
samples_resumed, samples_duplicates, bad:{sample status}, ttl, expires_at, webhook_url, webhook_on, owner,
spec_bytes, version.
Nothing here is needed to find results again: they are in the storage.
"""

from typing import NamedTuple

JOBS = "coreset:jobs"
JOB_PREFIX = "coreset:job:"
EXPIRIES = "coreset:expiries"
REMOVALS = "coreset:removals"
DELIVERIES = "coreset:deliveries"
DELIVERY = "coreset:delivery:{id}"
OPEN_JOBS = "coreset:open:{name}"
SPEC_BYTES = "coreset:spec_bytes"
IDEMPOTENCY = "coreset:idempotency:{key}"
LOCK = "coreset:turn:{name}"
PROBE = "coreset:probe"
CHECKS = "coreset:checks"
COUNTERS = "coreset:totals"
WORKER = "coreset:worker:{name}"


class JobKeys(NamedTuple):
    """The keys of one job."""

    record: str
    outcomes: str
    running: str
    devices: str
    failed: str
    trials: str
    warnings: str
    events: str


def job_keys(job_id: str) -> JobKeys:
    """Return the keys of the job."""
    record = f"{JOB_PREFIX}{job_id}"
    return JobKeys(record, *(f"{record}:{name}" for name in JobKeys._fields[1:]))
