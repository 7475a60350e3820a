-- Lease the webhook delivery that has been due for longest.
--
-- KEYS  1 deliveries
-- ARGV  1 seconds of the lease
-- Returns the job's id, or '' if no delivery is due.
-- include now
local deliveries = KEYS[1]
local lease_seconds = ARGV[1]

local due = redis.call('ZRANGE', deliveries, '-inf', now, 'BYSCORE', 'LIMIT', 0, 1)
if not due[1] then return '' end
redis.call('ZADD', deliveries, now + lease_seconds, due[1])
return due[1]
