-- Count a scored shard once, also if it had been counted as failed.
--
-- KEYS  1 the job's record   2 outcomes by shard   3 running shards   4 devices   5 failed shards   6 counters
-- ARGV  1 shard   2 device   3 samples read   4 samples scored   5 '1' if the part existed already, else '0'
--       6... status of bad samples, their number
-- Returns 'ok', 'missing', or 'counted' if the shard was counted as done before.
-- include require_record
local outcomes, running, devices, failed, counters = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local shard, device, read, scored, resumed = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'

redis.call('HDEL', running, shard)
local before = redis.call('HGET', outcomes, shard)
if before == 'done' then return 'counted' end
if before == 'failed' then
    redis.call('HINCRBY', record, 'shards_failed', -1)
    redis.call('HDEL', failed, shard)
end
redis.call('HSET', outcomes, shard, 'done')
redis.call('SADD', devices, device)
redis.call('HINCRBY', record, 'shards_done', 1)
redis.call('HINCRBY', record, 'samples_read', read)
redis.call('HINCRBY', record, 'samples_scored', scored)
redis.call('HINCRBY', counters, resumed and 'shards:resumed' or 'shards:scored', 1)
if resumed then
    redis.call('HINCRBY', record, 'shards_resumed', 1)
    redis.call('HINCRBY', record, 'samples_resumed', scored)
else
    redis.call('HINCRBY', counters, 'samples:ok', scored)
end
for i = 6, #ARGV, 2 do
    redis.call('HINCRBY', record, 'bad:' .. ARGV[i], ARGV[i + 1])
    if not resumed then redis.call('HINCRBY', counters, 'samples:' .. ARGV[i], ARGV[i + 1]) end
end
redis.call('HINCRBY', record, 'version', 1)
return 'ok'
