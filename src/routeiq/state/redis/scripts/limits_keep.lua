-- Prolong a worker's slots that are still taken. KEYS: its index. ARGV: worker, lifetime in ms. The keys in the
-- index carry the same hash tag, so they are on this node.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local ttl = tonumber(ARGV[2])
local kept = 0
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local count, till = string.match(redis.call('HGET', key, ARGV[1]) or '', '^(%d+):(%d+)$')
  if count and tonumber(till) > now then
    redis.call('HSET', key, ARGV[1], count .. ':' .. string.format('%.0f', now + ttl))
    redis.call('PEXPIRE', key, string.format('%.0f', math.max(redis.call('PTTL', key), ttl)))
    kept = kept + 1
  else
    redis.call('SREM', KEYS[1], key)
  end
end
if kept > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return kept
