-- Order the waiting tasks: by priority, each job's other tasks before its train, score and trial tasks in turns, and one check
-- before each turn.
--
-- KEYS  1 list of task ids
-- ARGV  1 tasks of a turn   2 rank of jobs that are not listed   3... job id, rank (0 first), running tasks
-- Within a rank the job with the fewest running tasks begins, then the oldest.
-- include rewrite_list
local list = KEYS[1]
local turn, default_rank = tonumber(ARGV[1]), tonumber(ARGV[2])
local listed = {}
for i = 3, #ARGV, 3 do listed[ARGV[i]] = {rank = tonumber(ARGV[i + 1]), running = tonumber(ARGV[i + 2])} end

local ordered, jobs, by_id, checks = {}, {}, {}, {}
for _, task_id in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local job_id, kind = string.match(task_id, '^(%w+)-(%a+)')
    if string.sub(task_id, 1, 6) == 'check-' then
        checks[#checks + 1] = task_id
    elseif not job_id then
        ordered[#ordered + 1] = task_id
    else
        local job = by_id[job_id]
        if not job then
            job = listed[job_id] or {rank = default_rank, running = 0}
            job.id, job.first, job.in_turns, job.done = job_id, {}, {}, 0
            by_id[job_id], jobs[#jobs + 1] = job, job
        end
        local tasks = (kind == 'score' or kind == 'trial' or kind == 'train') and job.in_turns or job.first
        tasks[#tasks + 1] = task_id
    end
end
table.sort(jobs, function(a, b)
    if a.rank ~= b.rank then return a.rank < b.rank end
    if a.running ~= b.running then return a.running < b.running end
    return a.id < b.id
end)

local function append_rank(rank)
    local unfinished = {}
    for _, job in ipairs(jobs) do
        if job.rank == rank then
            for _, task_id in ipairs(job.first) do ordered[#ordered + 1] = task_id end
            unfinished[#unfinished + 1] = job
        end
    end
    while #unfinished > 0 do
        local next_round = {}
        for _, job in ipairs(unfinished) do
            local last = math.min(job.done + turn, #job.in_turns)
            for i = job.done + 1, last do ordered[#ordered + 1] = job.in_turns[i] end
            job.done = last
            if last < #job.in_turns then next_round[#next_round + 1] = job end
        end
        unfinished = next_round
    end
end
local rank
for _, job in ipairs(jobs) do
    if job.rank ~= rank then
        rank = job.rank
        append_rank(rank)
    end
end
-- One check before each turn of job tasks, so that neither kind waits for all of the other.
local mixed, next_check = {}, 1
for position, task_id in ipairs(ordered) do
    if (position - 1) % turn == 0 and checks[next_check] then
        mixed[#mixed + 1], next_check = checks[next_check], next_check + 1
    end
    mixed[#mixed + 1] = task_id
end
for rest = next_check, #checks do mixed[#mixed + 1] = checks[rest] end
if #mixed > 0 then rewrite_list(list, mixed) end
