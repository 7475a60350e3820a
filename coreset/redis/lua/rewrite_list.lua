-- Include: `rewrite_list`, which replaces the content of a list. In batches, since `unpack` fills Lua's stack.
local function rewrite_list(list, ids)
    redis.call('DEL', list)
    for first = 1, #ids, 1000 do
        redis.call('RPUSH', list, unpack(ids, first, math.min(first + 999, #ids)))
    end
end
