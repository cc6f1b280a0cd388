-- Put a breaker up. KEYS: it. ARGV: left_ms, how long it stays after that in ms, JSON of the rest.
local time = redis.call('TIME')
local till = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[1])
local value = string.format('%.0f', till) .. ' ' .. ARGV[3]
redis.call('SET', KEYS[1], value, 'PX', string.format('%.0f', ARGV[1] + ARGV[2]))
return 1
