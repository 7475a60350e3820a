-- Make a webhook delivery due later, if it still exists.
--
-- KEYS  1 deliveries
-- ARGV  1 job id   2 seconds from now
-- Returns 'ok'.
-- include now
local deliveries = KEYS[1]
local id, seconds = ARGV[1], ARGV[2]

redis.call('ZADD', deliveries, 'XX', now + seconds, id)
return 'ok'
