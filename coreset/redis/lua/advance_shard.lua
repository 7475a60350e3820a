-- Record the progress of a shard that a worker scores.
--
-- KEYS  1 the job's record   2 outcomes by shard   3 running shards   4 devices
-- ARGV  1 shard   2 its fraction, 0 to 1   3 device or ''
-- Returns 'ok', 'missing', or 'counted' if the shard has an outcome.
-- include now
-- include require_record
local outcomes, running, devices = KEYS[2], KEYS[3], KEYS[4]
local shard, fraction, device = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HEXISTS', outcomes, shard) == 1 then return 'counted' end
redis.call('HSET', running, shard, now .. ' ' .. fraction)
if device ~= '' then redis.call('SADD', devices, device) end
redis.call('HINCRBY', record, 'version', 1)
return 'ok'
