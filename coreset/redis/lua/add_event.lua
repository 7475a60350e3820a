-- Include: `add_event`, which appends an event to a job's stream and drops the oldest beyond `max_events` or so.
local function add_event(stream, max_events, kind, data)
    redis.call('XADD', stream, 'MAXLEN', '~', max_events, '*', 'type', kind, 'data', data)
end
