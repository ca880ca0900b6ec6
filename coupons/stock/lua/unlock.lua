-- Give a lock back, if it is the caller's still, and wake the next in line.
--
-- KEYS  1 lock       string  sc:{7}:lock
--       2 waiting    list    sc:{7}:waiting
-- ARGV  1 token              the secret that it was taken with
--       2 prefix             of the channel that each who waits listens to, before its place
--
-- Returns 1, or 0 where it was another's, or nobody's.
--
-- Example: EVALSHA … 2 sc:{7}:lock sc:{7}:waiting   pL0q sc:{7}:free:   → 1

local lock_key, waiting_key = KEYS[1], KEYS[2]

if redis.call('GET', lock_key) ~= ARGV[1] then return 0 end
redis.call('LLEN', waiting_key)  -- its type, before the first write
redis.call('DEL', lock_key)
local place = redis.call('LPOP', waiting_key)
if place then redis.call('PUBLISH', ARGV[2] .. place, '') end
return 1
