-- Include: `now`, the server's time in seconds. The clocks of workers and service need not agree.
local time = redis.call('TIME')
local now = time[1] .. '.' .. string.format('%06d', time[2])
