-- Order the waiting tasks: checks, then by priority each job's other tasks before its score and trial tasks in turns.
--
-- KEYS  1 list of task ids
-- ARGV  1 tasks of a turn   2 rank of jobs that are not listed   3... job id, rank (0 first), running tasks
-- Within a rank the job with the fewest running tasks begins, then the oldest.
-- include rewrite_list
local list = KEYS[1]
local turn, default_rank = tonumber(ARGV[1]), tonumber(ARGV[2])
local listed = {}
for i = 3, #ARGV, 3 do listed[ARGV[i]] = {rank = tonumber(ARGV[i + 1]), running = tonumber(ARGV[i + 2])} end

local ordered, jobs, by_id = {}, {}, {}
for _, task_id in ipairs(redis.call('LRANGE', list, 0, -1)) do
    local job_id, kind = string.match(task_id, '^(%w+)-(%a+)')
    if job_id == 'check' or not job_id then
        ordered[#ordered + 1] = task_id
    else
        local job = by_id[job_id]
        if not job then
            job = listed[job_id] or {rank = default_rank, running = 0}
            job.id, job.first, job.in_turns, job.done = job_id, {}, {}, 0
            by_id[job_id], jobs[#jobs + 1] = job, job
        end
        local tasks = (kind == 'score' or kind == 'trial') and job.in_turns or job.first
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
if #ordered > 0 then rewrite_list(list, ordered) end
