-- Who has a lease and for how many ms. KEYS: it. ARGV: nothing; or a holder, to release it if it is theirs.
local held = redis.call('GET', KEYS[1])
if not held then return false end
local number, holder = string.match(held, '^(%d+) (.*)$')
local left = redis.call('PTTL', KEYS[1])
if ARGV[1] == holder then redis.call('DEL', KEYS[1]) end
return {tonumber(number), holder, left}
