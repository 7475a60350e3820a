-- Delete the record of a job that has ended, schedule the removal of its files, and count its spec for its owner no more.
--
-- KEYS  1 the job's record   2 list of jobs   3 removals   4 expiries   5 bytes of specs by caller
--       6... the job's other keys
-- ARGV  1 job id   2... terminal states
-- Returns 'ok', 'missing', or the present state if it is not terminal.
-- include now
-- include require_record
local jobs, removals, expiries, spec_bytes = KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id = ARGV[1]

local ended = false
for i = 2, #ARGV do ended = ended or ARGV[i] == status end
if not ended then return status end
local owner, own_bytes = unpack(redis.call('HMGET', record, 'owner', 'spec_bytes'))
if owner and redis.call('HINCRBY', spec_bytes, owner, -own_bytes) <= 0 then redis.call('HDEL', spec_bytes, owner) end
redis.call('DEL', record, unpack(KEYS, 6))
redis.call('ZREM', jobs, id)
redis.call('ZREM', expiries, id)
redis.call('ZADD', removals, now, id)
return 'ok'
