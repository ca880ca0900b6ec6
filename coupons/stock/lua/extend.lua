-- Keep a lock for longer, if it is the caller's still.
--
-- KEYS  1 lock       string  sc:{7}:lock
-- ARGV  1 token              the secret that it was taken with
--       2 ttl                milliseconds from now on
--
-- Returns 1, or 0 where it was another's, or nobody's.
--
-- Example: EVALSHA … 1 sc:{7}:lock   pL0q 2000   → 1

local lock_key = KEYS[1]

if redis.call('GET', lock_key) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', lock_key, ARGV[2])
