-- Remove all tasks of one job from a list, in one pass: LREM would make one pass per task.
--
-- KEYS  1 list of task ids
-- ARGV  1 job id
-- include rewrite_list
local list = KEYS[1]
local prefix = ARGV[1] .. '-'

local others, all = {}, redis.call('LRANGE', list, 0, -1)
for _, task_id in ipairs(all) do
    if string.sub(task_id, 1, #prefix) ~= prefix then others[#others + 1] = task_id end
end
if #others < #all then rewrite_list(list, others) end
