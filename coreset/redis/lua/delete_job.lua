-- Delete the record of a job that has ended, and schedule the removal of its files.
--
-- KEYS  1 the job's record   2 list of jobs   3 removals   4 expiries   5... the job's other keys
-- ARGV  1 job id   2... terminal states
-- Returns 'ok', 'missing', or the present state if it is not terminal.
-- include now
-- include require_record
local jobs, removals, expiries = KEYS[2], KEYS[3], KEYS[4]
local id = ARGV[1]

local ended = false
for i = 2, #ARGV do ended = ended or ARGV[i] == status end
if not ended then return status end
redis.call('DEL', record, unpack(KEYS, 5))
redis.call('ZREM', jobs, id)
redis.call('ZREM', expiries, id)
redis.call('ZADD', removals, now, id)
return 'ok'
