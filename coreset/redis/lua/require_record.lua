-- Include: `record`, the key of the job's hash, and `status`, its state; returns 'missing' if there is no such job.
local record = KEYS[1]
local status = redis.call('HGET', record, 'status')
if not status then return 'missing' end
