-- Record the progress of a trial, and from all trials the progress of the job's last phase.
--
-- KEYS  1 the job's record   2 the job's trials
-- ARGV  1 trial   2 its fraction, 0 to 1   3 number of trials   4 fraction of the phase before the trials, 0 to 1
-- Returns 'ok' or 'missing'.
-- include require_record
local trials = KEYS[2]
local trial, fraction, total, before = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

redis.call('HSET', trials, trial, fraction)
local sum, done = 0, 0
for _, each in ipairs(redis.call('HVALS', trials)) do
    sum = sum + each
    if tonumber(each) == 1 then done = done + 1 end
end
local reduced = before + (1 - before) * sum / total
redis.call('HSET', record, 'reduce_fraction', string.format('%.4f', reduced))
redis.call('HSET', record, 'stage', 'training proxies, ' .. done .. ' of ' .. total)
redis.call('HINCRBY', record, 'version', 1)
return 'ok'
