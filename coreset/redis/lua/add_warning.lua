-- Add a warning to a job, each text once.
--
-- KEYS  1 the job's record   2 warnings   3 the job's events
-- ARGV  1 text   2 event's type   3 event's data   4 events to keep
-- Returns 'ok', 'missing', or 'counted' if the job has this warning.
-- include now
-- include add_event
-- include require_record
local warnings, events = KEYS[2], KEYS[3]
local text, event_type, event_data, max_events = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('ZADD', warnings, 'NX', now, text) == 0 then return 'counted' end
redis.call('HINCRBY', record, 'version', 1)
add_event(events, max_events, event_type, event_data)
return 'ok'
