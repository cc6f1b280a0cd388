-- Keep the list of open breakers. KEYS: it. ARGV: nothing to read it, or a name and after how many ms it goes.
-- Returns the server's time in ms, then the names.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now)
if ARGV[1] then
  redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], string.format('%.0f', math.max(redis.call('PTTL', KEYS[1]), ARGV[2])))
  return {now}
end
local answer = redis.call('ZRANGE', KEYS[1], 0, -1)
table.insert(answer, 1, now)
return answer
