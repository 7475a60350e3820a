-- Move a job to another state; at its end, schedule its deletion and its webhook if the spec asks for them.
--
-- KEYS  1 the job's record   2 the job's events   3 counters   4 expiries   5 deliveries   6 the job's delivery
-- ARGV  1 new state   2 stage   3 reason code or ''   4 reason message   5 record field for the time or ''
--       6 event's type   7 event's data   8 events to keep   9... states from which the new one may be reached
-- Returns 'ok', 'same', 'missing', or the present state if it does not lead to the new one.
-- include now
-- include add_event
-- include require_record
local events, counters, expiries, deliveries, delivery = KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local target, stage, reason_code, reason_message, time_field = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local event_type, event_data, max_events = ARGV[6], ARGV[7], ARGV[8]

if status == target then return 'same' end
local legal = false
for i = 9, #ARGV do legal = legal or ARGV[i] == status end
if not legal then return status end
redis.call('HSET', record, 'status', target, 'stage', stage)
if reason_code ~= '' then redis.call('HSET', record, 'reason_code', reason_code, 'reason_message', reason_message) end
if time_field ~= '' then redis.call('HSETNX', record, time_field, now) end
if time_field == 'ended_at' then redis.call('HINCRBY', counters, 'jobs:' .. target, 1) end
redis.call('HINCRBY', record, 'version', 1)
add_event(events, max_events, event_type, event_data)
local ttl = redis.call('HGET', record, 'ttl')
if ttl and event_type == 'ended' then
    redis.call('HSET', record, 'expires_at', now + ttl)
    redis.call('ZADD', expiries, now + ttl, redis.call('HGET', record, 'id'))
end
local webhook_on = redis.call('HGET', record, 'webhook_on')
if webhook_on and event_type == 'ended' and string.find(webhook_on, ' ' .. target .. ' ', 1, true) then
    local job = redis.call('HMGET', record, 'id', 'webhook_url')
    redis.call('HSET', delivery, 'job_id', job[1], 'url', job[2], 'at', now, 'data', event_data, 'attempts', 0)
    redis.call('ZADD', deliveries, now, job[1])
end
return 'ok'
