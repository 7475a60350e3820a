-- Count a shard that failed for good, once.
--
-- KEYS  1 the job's record   2 outcomes by shard   3 running shards   4 failed shards   5 the job's events   6 counters
-- ARGV  1 shard   2 event's type   3 event's data, the failure as JSON   4 events to keep
-- Returns 'ok', 'missing', or 'counted' if the shard has an outcome.
-- include add_event
-- include require_record
local outcomes, running, failed, events, counters = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local shard, event_type, event_data, max_events = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

redis.call('HDEL', running, shard)
if redis.call('HSETNX', outcomes, shard, 'failed') == 0 then return 'counted' end
redis.call('HSET', failed, shard, event_data)
redis.call('HINCRBY', record, 'shards_failed', 1)
redis.call('HINCRBY', counters, 'shards:failed', 1)
redis.call('HINCRBY', record, 'version', 1)
add_event(events, max_events, event_type, event_data)
return 'ok'
