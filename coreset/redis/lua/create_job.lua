-- Store a new job, unless its idempotency key is claimed, its id exists, or its caller has too many open jobs or
-- too many bytes of specs.
--
-- KEYS  1 the job's record   2 list of jobs   3 the job's events   4 idempotency key or ''
--       5 the caller's open jobs or ''   6 bytes of specs by caller
-- ARGV  1 job id   2 spec, JSON   3 fingerprint of the spec   4 seconds to keep the idempotency key   5 priority
--       6 event's type   7 event's data   8 events to keep   9 open jobs that the caller may have
--       10 prefix of a record's key   11 terminal states, ',' around each   12 the caller's name or ''   13 bytes to count for this spec
--       14 bytes that the caller may have   15... field, value of the record
-- Returns 'ok', 'exists', 'full', 'stored' if the specs are too many bytes, or 'JOB-ID FINGERPRINT' of the job that claimed the idempotency key.
-- include now
-- include add_event
local record, jobs, events, idempotency, open_jobs, spec_bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local id, spec, fingerprint, keep_seconds, priority = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local event_type, event_data, max_events = ARGV[6], ARGV[7], ARGV[8]
local max_open_jobs, record_prefix, terminal = tonumber(ARGV[9]), ARGV[10], ARGV[11]
local owner, own_bytes, max_bytes = ARGV[12], tonumber(ARGV[13]), tonumber(ARGV[14])

local claimed = idempotency ~= '' and redis.call('GET', idempotency)
if claimed then return claimed end
if redis.call('EXISTS', record) == 1 then return 'exists' end
if owner ~= '' and tonumber(redis.call('HGET', spec_bytes, owner) or 0) + own_bytes > max_bytes then return 'stored' end
if open_jobs ~= '' then
    for _, open_id in ipairs(redis.call('SMEMBERS', open_jobs)) do
        local status = redis.call('HGET', record_prefix .. open_id, 'status')
        if not status or string.find(terminal, ',' .. status .. ',', 1, true) then
            redis.call('SREM', open_jobs, open_id)
        end
    end
    if redis.call('SCARD', open_jobs) >= max_open_jobs then return 'full' end
    redis.call('SADD', open_jobs, id)
end
if idempotency ~= '' then redis.call('SET', idempotency, id .. ' ' .. fingerprint, 'EX', keep_seconds) end
redis.call('HSET', record, 'id', id, 'status', 'queued', 'spec', spec, 'priority', priority)
redis.call('HSET', record, 'created_at', now, 'version', 1)
if ARGV[15] then redis.call('HSET', record, unpack(ARGV, 15)) end
if owner ~= '' then
    redis.call('HINCRBY', spec_bytes, owner, own_bytes)
    redis.call('HSET', record, 'owner', owner, 'spec_bytes', own_bytes)
end
redis.call('ZADD', jobs, now, id)
add_event(events, max_events, event_type, event_data)
return 'ok'
