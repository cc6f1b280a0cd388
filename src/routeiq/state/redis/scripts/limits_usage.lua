-- What is taken in each bucket now. KEYS: one per bucket. ARGV: kind per bucket. Formats as in limits_reserve.lua.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answer = {}
for i, key in ipairs(KEYS) do
  local used = 0
  if ARGV[i] == 's' then
    for _, cell in ipairs(redis.call('HVALS', key)) do
      local count, till = string.match(cell, '^(%d+):(%d+)$')
      if tonumber(till) > now then used = used + tonumber(count) end
    end
  else
    local text = redis.call('GET', key)
    if text and ARGV[i] == 'p' then
      used = tonumber(string.match(text, '%d+'))
    elseif text then
      local n, c, p, w = string.match(text, '^(%d+):(%d+):(%d+):(%d+)$')
      n, c, p, w = tonumber(n), tonumber(c), tonumber(p), tonumber(w)
      local number = math.floor(now / w)
      if number > n then p, c = number == n + 1 and c or 0, 0; n = number end
      local left = math.min(math.max((n + 1) * w - now, 0), w)
      used = c + math.ceil(p * left / w)
    end
  end
  answer[i] = used
end
return answer
