-- Take or renew a lease. KEYS: it, its last token. ARGV: holder, ttl_ms. Returns the token, or false.
-- A token is at least the time in ms, so that it grows even where Redis lost what it had.
local held = redis.call('GET', KEYS[1])
local token
if held then
  local number, holder = string.match(held, '^(%d+) (.*)$')
  if holder ~= ARGV[1] then return false end
  token = tonumber(number)
else
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now)
  redis.call('SET', KEYS[2], string.format('%.0f', token))
end
redis.call('SET', KEYS[1], string.format('%.0f', token) .. ' ' .. ARGV[1], 'PX', ARGV[2])
return token
