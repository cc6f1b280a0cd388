-- Take from all buckets or from none. KEYS: one per ask, then the worker's index of slots if it asks for slots.
-- ARGV: worker, lifetime of slots in ms, of period buckets without one in ms, then per ask: kind, limit, amount,
-- extra, window_ms, keep_ms, seed.
-- Returns the refused ask (0: none), retry_after_ms, then per ask: taken, used, reset_ms, window.
-- Windows are 'number:current:previous:window_ms', periods '[~]taken' ('~': settled, but not seeded yet), slots a
-- hash of worker to 'count:until_ms'. The arithmetic is that of routeiq.state.window; exact below 2^53.
local MARGIN = 1
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local worker, slots_ms, period_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local FIELDS, FIRST = 7, 4
local asks = (#ARGV - FIRST + 1) / FIELDS
local raw = redis.call('MGET', unpack(KEYS, 1, asks))
local states = {}

local function int(number) return string.format('%.0f', number) end

local function window_state(text, window_ms)
  local number = floor(now / window_ms)
  local state = {number = number, current = 0, previous = 0, length = window_ms}
  if text then
    local n, c, p, w = string.match(text, '^(%d+):(%d+):(%d+):(%d+)$')
    n, c, p = tonumber(n), tonumber(c), tonumber(p)
    if tonumber(w) == window_ms then
      if number <= n then
        state.number, state.current, state.previous = n, c, p
      elseif number == n + 1 then
        state.previous = c
      end
    end
  end
  state.left = min(max((state.number + 1) * window_ms - now, 0), window_ms)
  return state
end

local function slots_state(key)
  local used, own, own_till = 0, 0, 0
  local cells = redis.call('HGETALL', key)
  for i = 1, #cells, 2 do
    local count, till = string.match(cells[i + 1], '^(%d+):(%d+)$')
    if tonumber(till) > now then
      used = used + tonumber(count)
      if cells[i] == worker then own, own_till = tonumber(count), tonumber(till) end
    else
      redis.call('HDEL', key, cells[i])
    end
  end
  return {used = used, own = own, till = own_till}
end

local function state_of(i, kind, window_ms, seed)
  local key = KEYS[i]
  local state = states[key]
  if state then return state end
  if kind == 'w' then
    state = window_state(raw[i], window_ms)
  elseif kind == 'p' then
    local text = raw[i]
    if not text then
      state = {used = seed, ttl = 0, unknown = true}
    else
      local fresh = string.sub(text, 1, 1) == '~'
      local taken = tonumber(fresh and string.sub(text, 2) or text)
      state = {used = fresh and taken + seed or taken, ttl = max(redis.call('PTTL', key), 0)}
    end
  else
    state = slots_state(key)
  end
  states[key] = state
  return state
end

local function used_of(kind, state)
  if kind == 'w' then return state.current + ceil(state.previous * state.left / state.length) end
  return state.used
end

local function wait_of(kind, state, room)
  if kind == 'p' then return max(state.ttl, 1000) end
  if kind == 's' then return 1000 end
  local left, length = state.left, state.length
  if room < 0 then
    return MARGIN + (state.current > 0 and left + length or state.previous > 0 and left or 0)
  end
  if state.current <= room then
    return left - (room - state.current) / state.previous * length + MARGIN
  end
  return left + (1 - room / state.current) * length + MARGIN
end

local taken, refused, wait = {}, 0, 0
for i = 1, asks do
  local at = FIRST + (i - 1) * FIELDS
  local kind, limit, amount, extra = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local state = state_of(i, kind, tonumber(ARGV[at + 4]), tonumber(ARGV[at + 6]))
  if refused == 0 then
    local used = used_of(kind, state)
    if used + amount > limit then
      refused, wait = i, wait_of(kind, state, limit - amount)
    else
      local more = max(min(extra, floor((limit - used - amount) / 8)), 0)
      taken[i] = amount + more
      if kind == 'w' then state.current = state.current + taken[i]
      else
        state.used = state.used + taken[i]
        if kind == 's' then state.own = state.own + taken[i] end
      end
    end
  end
end

-- A refusal writes nothing: give back in memory what the asks before it took.
for i = 1, asks do
  local at = FIRST + (i - 1) * FIELDS
  local kind, state = ARGV[at], states[KEYS[i]]
  if refused > 0 and taken[i] then
    if kind == 'w' then state.current = state.current - taken[i] else state.used = state.used - taken[i] end
    taken[i] = 0
  end
end

local answer = {refused, ceil(wait)}
for i = 1, asks do
  local at = FIRST + (i - 1) * FIELDS
  local kind, key, state, got = ARGV[at], KEYS[i], states[KEYS[i]], taken[i] or 0
  local reset, number = 0, 0
  if kind == 'w' then
    number = state.number
    if state.current > 0 then reset = state.left + state.length
    elseif state.previous > 0 then reset = state.left end
    if got > 0 then
      local text = int(number) .. ':' .. int(state.current) .. ':' .. int(state.previous) .. ':' .. ARGV[at + 4]
      redis.call('SET', key, text, 'PX', int(max((number + 2) * state.length - now, 1)))
    end
  elseif kind == 'p' then
    local keep = tonumber(ARGV[at + 5])
    if got > 0 or (state.unknown and refused == 0) then
      state.ttl = max(state.ttl, keep > 0 and keep or period_ms)
      redis.call('SET', key, int(state.used), 'PX', int(state.ttl))
    end
    reset = state.ttl
  elseif got > 0 then
    redis.call('HSET', key, worker, int(state.own) .. ':' .. int(max(state.till, now + slots_ms)))
    redis.call('PEXPIRE', key, int(max(redis.call('PTTL', key), slots_ms)))
    local index = KEYS[asks + 1]
    redis.call('SADD', index, key)
    redis.call('PEXPIRE', index, int(max(redis.call('PTTL', index), slots_ms)))
  end
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3], answer[n + 4] = got, used_of(kind, state), reset, number
end
return answer
