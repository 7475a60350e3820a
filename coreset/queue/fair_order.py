"""Who is next: the order of the tasks that wait in one of RQ's lists.

RQ's queue is a list, first in, first out: a job of ten shards that is posted after one of ten thousand would wait for
all of them. So each addition of a job's tasks deals the list again, in one script: job by job in turns, high priority
before normal before low, with one check before each turn. Nothing else of the queue changes: it stays one list of task
ids, from which RQ pops the front.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from coreset.spec.job import PRIORITIES, Priority

TURN = 4
"""Tasks that each worker takes of one job before the next job's turn. Not one: a worker holds one plan's model and
loader processes at a time, and exchanging them takes seconds for small models, longer for large ones."""


class Standing(NamedTuple):
    """What decides a job's place.

    Attributes:
        running: tasks of it that workers hold; whoever has the fewest is dealt to first, then the oldest.
    """

    priority: Priority = "normal"
    running: int = 0


def deal(redis: Any, queue_key: str, standings: Mapping[str, Standing], workers: int) -> None:
    """Bring the waiting tasks into the order in which the jobs' turns come.

    Within a priority the jobs share the workers equally from now on, in turns of TURN tasks a worker; a job's own tasks
    keep their order, its prepare goes first; trials take turns as score tasks do. Atomic; a task that is popped before
    is not touched. It takes about 0.02 s for 16,000 waiting tasks, 1.4 s for a million, during which Redis serves
    nobody else.

    Args:
        queue_key: of the list; entries are `coreset.queue.task_queue.task_id`s.
        standings: by job; others are taken for normal ones of which nothing runs.
    """
    arguments: list[str | int] = [TURN * max(1, workers), PRIORITIES.index("normal")]
    for job_id, standing in standings.items():
        arguments += [job_id, PRIORITIES.index(standing.priority), standing.running]
    redis.eval(_DEAL, 1, queue_key, *arguments)


def withdraw(redis: Any, queue_key: str, job_id: str) -> None:
    """Take all of a job's tasks off the list, in one pass: LREM would make one for each of them."""
    redis.eval(_WITHDRAW, 1, queue_key, job_id)


_REWRITE = """
local function rewrite(ids)
    redis.call('DEL', KEYS[1])
    for first = 1, #ids, 1000 do
        redis.call('RPUSH', KEYS[1], unpack(ids, first, math.min(first + 999, #ids)))
    end
end
"""

_DEAL = (
    _REWRITE
    + """
-- KEYS: list of task ids. ARGV: tasks a turn, the usual rank, then job id, rank (0 goes first), tasks running ...
local turn, usual = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = {}
for i = 3, #ARGV, 3 do known[ARGV[i]] = {rank = tonumber(ARGV[i + 1]), running = tonumber(ARGV[i + 2])} end

local dealt, jobs, by_id, checks = {}, {}, {}, {}
for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
    local name, what = string.match(id, '^(%w+)-(%a+)')
    if string.sub(id, 1, 6) == 'check-' then
        checks[#checks + 1] = id
    elseif not name then
        dealt[#dealt + 1] = id
    else
        local job = by_id[name]
        if not job then
            job = known[name] or {rank = usual, running = 0}
            job.id, job.first, job.scores, job.done = name, {}, {}, 0
            by_id[name], jobs[#jobs + 1] = job, job
        end
        local kind = (what == 'score' or what == 'trial') and job.scores or job.first
        kind[#kind + 1] = id
    end
end
table.sort(jobs, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    if a.running ~= b.running then return a.running < b.running end
    return a.id < b.id
end)

local function serve(rank)
    local hungry = {}
    for _, job in ipairs(jobs) do
        if job.rank == rank then
            for _, id in ipairs(job.first) do dealt[#dealt + 1] = id end
            hungry[#hungry + 1] = job
        end
    end
    while #hungry > 0 do
        local still = {}
        for _, job in ipairs(hungry) do
            local last = math.min(job.done + turn, #job.scores)
            for i = job.done + 1, last do dealt[#dealt + 1] = job.scores[i] end
            job.done = last
            if last < #job.scores then still[#still + 1] = job end
        end
        hungry = still
    end
end
local rank
for _, job in ipairs(jobs) do
    if job.rank ~= rank then
        rank = job.rank
        serve(rank)
    end
end
-- One check before each turn of job tasks: neither waits for all of the other.
local mixed, check = {}, 1
for position, id in ipairs(dealt) do
    if (position - 1) % turn == 0 and checks[check] then
        mixed[#mixed + 1], check = checks[check], check + 1
    end
    mixed[#mixed + 1] = id
end
for rest = check, #checks do mixed[#mixed + 1] = checks[rest] end
if #mixed > 0 then rewrite(mixed) end
"""
)

_WITHDRAW = (
    _REWRITE
    + """
-- KEYS: list of task ids. ARGV: job id
local start, kept, all = ARGV[1] .. '-', {}, redis.call('LRANGE', KEYS[1], 0, -1)
for _, id in ipairs(all) do
    if string.sub(id, 1, #start) ~= start then kept[#kept + 1] = id end
end
if #kept < #all then rewrite(kept) end
"""
)
