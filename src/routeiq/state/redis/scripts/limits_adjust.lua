-- Settle a batch, once. KEYS: the worker's sequence number, its index of slots, then one per delta. ARGV: worker,
-- seq, its lifetime in s, lifetime of slots in ms, of period buckets without one in ms, then per delta: kind, amount,
-- window, window_ms, keep_ms. Formats as in limits_reserve.lua.
if tonumber(redis.call('GET', KEYS[1]) or '0') >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local worker, slots_ms, period_ms = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
local floor, max = math.floor, math.max

local function int(number) return string.format('%.0f', number) end

local function window(key, amount, debited, window_ms)
  local number, n, c, p = floor(now / window_ms), nil, 0, 0
  local text = redis.call('GET', key)
  if text then
    local on, oc, op, w = string.match(text, '^(%d+):(%d+):(%d+):(%d+)$')
    on = tonumber(on)
    if tonumber(w) == window_ms then
      if number <= on then n, c, p = on, tonumber(oc), tonumber(op)
      elseif number == on + 1 then p = tonumber(oc) end
    end
  end
  n = n or number
  if debited == n then c = max(c + amount, 0)
  elseif debited == n - 1 then p = max(p + amount, 0)
  else return end
  local value = int(n) .. ':' .. int(c) .. ':' .. int(p) .. ':' .. int(window_ms)
  redis.call('SET', key, value, 'PX', int(max((n + 2) * window_ms - now, 1)))
end

local function period(key, amount, keep)
  local text = redis.call('GET', key)
  local mark, taken, ttl = '~', 0, 0
  if text then
    mark, taken = string.match(text, '^(~?)(%d+)$')
    taken, ttl = tonumber(taken), max(redis.call('PTTL', key), 0)
  end
  redis.call('SET', key, mark .. int(max(taken + amount, 0)), 'PX', int(max(ttl, keep > 0 and keep or period_ms)))
end

local function slots(key, amount)
  local text = redis.call('HGET', key, worker)
  local count, till = 0, 0
  if text then
    local c, t = string.match(text, '^(%d+):(%d+)$')
    if tonumber(t) > now then count, till = tonumber(c), tonumber(t) end
  end
  count = max(count + amount, 0)
  if count == 0 then
    redis.call('HDEL', key, worker)
    redis.call('SREM', KEYS[2], key)
    return
  end
  if amount > 0 then till = max(till, now + slots_ms) end
  redis.call('HSET', key, worker, int(count) .. ':' .. int(till))
  redis.call('PEXPIRE', key, int(max(redis.call('PTTL', key), till - now)))
  redis.call('SADD', KEYS[2], key)
  redis.call('PEXPIRE', KEYS[2], int(max(redis.call('PTTL', KEYS[2]), till - now)))
end

for i = 3, #KEYS do
  local at = 6 + (i - 3) * 5
  local kind, amount = ARGV[at], tonumber(ARGV[at + 1])
  if kind == 'w' then window(KEYS[i], amount, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]))
  elseif kind == 'p' then period(KEYS[i], amount, tonumber(ARGV[at + 4]))
  else slots(KEYS[i], amount) end
end
return 1
