-- Set fields of a job's record.
--
-- KEYS  1 the job's record
-- ARGV  1... field, value
-- Returns 'ok' or 'missing'.
-- include require_record
redis.call('HSET', record, unpack(ARGV))
redis.call('HINCRBY', record, 'version', 1)
return 'ok'
