"""The Lua behind job_store.py: each change of a job is one script, so it happens whole, once, or not at all.

Scripts are given their keys; they know none by name. KEYS[1] is always the job's record. The clock is the server's, so
that the clocks of workers and service need not agree.
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
"""

EVENTS_KEPT = 1000
"""Milestones of a job that its stream holds at least; older ones go first."""

_TELL = f"""
local function tell(stream, kind, data)
    redis.call('XADD', stream, 'MAXLEN', '~', {EVENTS_KEPT}, '*', 'type', kind, 'data', data)
end
"""

_RECORD = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
"""

CREATE = (
    _NOW
    + _TELL
    + """
-- KEYS: record, list of jobs, events, idempotency key or '', the caller's open jobs or ''
-- ARGV: id, spec, fingerprint, seconds to keep the key, priority, event's type, its data, open jobs that the caller may
-- have, what stands before the id in a record's key, states at the end, then field, value ...
local claimed = KEYS[4] ~= '' and redis.call('GET', KEYS[4])
if claimed then return claimed end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'exists' end
if KEYS[5] ~= '' then
    for _, id in ipairs(redis.call('SMEMBERS', KEYS[5])) do
        local status = redis.call('HGET', ARGV[9] .. id, 'status')
        if not status or string.find(ARGV[10], ',' .. status .. ',', 1, true) then
            redis.call('SREM', KEYS[5], id)
        end
    end
    if redis.call('SCARD', KEYS[5]) >= tonumber(ARGV[8]) then return 'full' end
    redis.call('SADD', KEYS[5], ARGV[1])
end
if KEYS[4] ~= '' then redis.call('SET', KEYS[4], ARGV[1] .. ' ' .. ARGV[3], 'EX', ARGV[4]) end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'status', 'queued', 'spec', ARGV[2], 'priority', ARGV[5])
redis.call('HSET', KEYS[1], 'created_at', now, 'version', 1)
if ARGV[11] then redis.call('HSET', KEYS[1], unpack(ARGV, 11)) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
tell(KEYS[3], ARGV[6], ARGV[7])
return 'ok'
"""
)

TRANSITION = (
    _NOW
    + _TELL
    + _RECORD
    + """
-- KEYS: record, events, totals, expiries, deliveries, the job's delivery
-- ARGV: to, stage, reason code, reason message, name of the time field or '', event's type, its data, then the states
-- it may come from
if status == ARGV[1] then return 'same' end
local legal = false
for i = 8, #ARGV do legal = legal or ARGV[i] == status end
if not legal then return status end
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'stage', ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'reason_code', ARGV[3], 'reason_message', ARGV[4]) end
if ARGV[5] ~= '' then redis.call('HSETNX', KEYS[1], ARGV[5], now) end
if ARGV[5] == 'ended_at' then redis.call('HINCRBY', KEYS[3], 'jobs:' .. ARGV[1], 1) end
redis.call('HINCRBY', KEYS[1], 'version', 1)
tell(KEYS[2], ARGV[6], ARGV[7])
local keep = redis.call('HGET', KEYS[1], 'ttl')
if keep and ARGV[6] == 'ended' then
    redis.call('HSET', KEYS[1], 'expires_at', now + keep)
    redis.call('ZADD', KEYS[4], now + keep, redis.call('HGET', KEYS[1], 'id'))
end
local wanted = redis.call('HGET', KEYS[1], 'webhook_on')
if wanted and ARGV[6] == 'ended' and string.find(wanted, ' ' .. ARGV[1] .. ' ', 1, true) then
    local job = redis.call('HMGET', KEYS[1], 'id', 'webhook_url')
    redis.call('HSET', KEYS[6], 'job_id', job[1], 'url', job[2], 'at', now, 'data', ARGV[7], 'attempts', 0)
    redis.call('ZADD', KEYS[5], now, job[1])
end
return 'ok'
"""
)

SET_FIELDS = (
    _RECORD
    + """
-- ARGV: field, value, field, value ...
if #ARGV > 0 then redis.call('HSET', KEYS[1], unpack(ARGV)) end
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 'ok'
"""
)

TRIAL = (
    _RECORD
    + """
-- KEYS: record, trials. ARGV: trial, fraction of it, trials in all, what the phase had done before them (0 to 1)
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
local sum, done = 0, 0
for _, fraction in ipairs(redis.call('HVALS', KEYS[2])) do
    sum = sum + fraction
    if tonumber(fraction) == 1 then done = done + 1 end
end
local reduced = ARGV[4] + (1 - ARGV[4]) * sum / ARGV[3]
redis.call('HSET', KEYS[1], 'reduce_fraction', string.format('%.4f', reduced))
redis.call('HSET', KEYS[1], 'stage', 'training proxies, ' .. done .. ' of ' .. ARGV[3])
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 'ok'
"""
)

SHARD_RUNNING = (
    _NOW
    + _RECORD
    + """
-- KEYS: record, outcomes, running, devices. ARGV: shard, fraction, device or ''
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 'counted' end
redis.call('HSET', KEYS[3], ARGV[1], now .. ' ' .. ARGV[2])
if ARGV[3] ~= '' then redis.call('SADD', KEYS[4], ARGV[3]) end
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 'ok'
"""
)

SHARD_DONE = (
    _RECORD
    + """
-- KEYS: record, outcomes, running, devices, failed, totals
-- ARGV: shard, device, samples read, scored, resumed 0|1, then kind of bad sample, count ...
redis.call('HDEL', KEYS[3], ARGV[1])
local before = redis.call('HGET', KEYS[2], ARGV[1])
if before == 'done' then return 'counted' end
if before == 'failed' then
    redis.call('HINCRBY', KEYS[1], 'shards_failed', -1)
    redis.call('HDEL', KEYS[5], ARGV[1])
end
redis.call('HSET', KEYS[2], ARGV[1], 'done')
redis.call('SADD', KEYS[4], ARGV[2])
redis.call('HINCRBY', KEYS[1], 'shards_done', 1)
redis.call('HINCRBY', KEYS[1], 'samples_read', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'samples_scored', ARGV[4])
redis.call('HINCRBY', KEYS[6], ARGV[5] == '1' and 'shards:resumed' or 'shards:scored', 1)
if ARGV[5] == '1' then
    redis.call('HINCRBY', KEYS[1], 'shards_resumed', 1)
    redis.call('HINCRBY', KEYS[1], 'samples_resumed', ARGV[4])
end
if ARGV[5] == '0' then redis.call('HINCRBY', KEYS[6], 'samples:ok', ARGV[4]) end
for i = 6, #ARGV, 2 do
    redis.call('HINCRBY', KEYS[1], 'bad:' .. ARGV[i], ARGV[i + 1])
    if ARGV[5] == '0' then redis.call('HINCRBY', KEYS[6], 'samples:' .. ARGV[i], ARGV[i + 1]) end
end
redis.call('HINCRBY', KEYS[1], 'version', 1)
return 'ok'
"""
)

SHARD_FAILED = (
    _TELL
    + _RECORD
    + """
-- KEYS: record, outcomes, running, failed, events, totals
-- ARGV: shard, event's type, its data: what is known of the failure
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('HSETNX', KEYS[2], ARGV[1], 'failed') == 0 then return 'counted' end
redis.call('HSET', KEYS[4], ARGV[1], ARGV[3])
redis.call('HINCRBY', KEYS[1], 'shards_failed', 1)
redis.call('HINCRBY', KEYS[6], 'shards:failed', 1)
redis.call('HINCRBY', KEYS[1], 'version', 1)
tell(KEYS[5], ARGV[2], ARGV[3])
return 'ok'
"""
)

WARN = (
    _NOW
    + _TELL
    + _RECORD
    + """
-- KEYS: record, warnings, events. ARGV: text, event's type, its data
if redis.call('ZADD', KEYS[2], 'NX', now, ARGV[1]) == 0 then return 'counted' end
redis.call('HINCRBY', KEYS[1], 'version', 1)
tell(KEYS[3], ARGV[2], ARGV[3])
return 'ok'
"""
)

DELETE = (
    _NOW
    + _RECORD
    + """
-- KEYS: record, list of jobs, removals, expiries, then the job's other keys. ARGV: id, then the states that allow it
local legal = false
for i = 2, #ARGV do legal = legal or ARGV[i] == status end
if not legal then return status end
redis.call('DEL', KEYS[1], unpack(KEYS, 5))
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
return 'ok'
"""
)

TAKE_DELIVERY = (
    _NOW
    + """
-- KEYS: deliveries. ARGV: seconds of the lease
local due = redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)
if not due[1] then return '' end
redis.call('ZADD', KEYS[1], now + ARGV[1], due[1])
return due[1]
"""
)

POSTPONE_DELIVERY = (
    _NOW
    + """
-- KEYS: deliveries, the job's delivery. ARGV: job id, seconds from now
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[2], ARGV[1])
return 'ok'
"""
)
