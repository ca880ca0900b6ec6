-- Take a lock for a while, with a number that tells its holders apart; or stand in line for it.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 lock       string  sc:{7}:lock
--       3 waiting    list    sc:{7}:waiting
-- ARGV  1 epoch              the load the caller believes in (the database's)
--       2 token              a secret of the caller's
--       3 ttl                milliseconds that it is the caller's at most
--       4 place              the caller's name in line; "" to stand in none
--       5 woken              1 where the caller was the next in line: it is not sent to the end
--
-- Returns {fence, milliseconds}:
--   a fence of 1 or more   the lock is the caller's
--   0                      it is another's, for so many milliseconds at most
--   -1                     the stock is not loaded here in this epoch, and with it the last number is not known
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:lock sc:{7}:waiting   1 pL0q 2000 "" 0   → {17, 2000}
--
-- The fence is the next sequence number, given in the same script as the lock. Given after it, whoever hung in between and lost the lock would
-- come back with a higher number than who has it.

local state_key, lock_key, waiting_key = KEYS[1], KEYS[2], KEYS[3]
local epoch, token, ttl, place, woken = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if redis.call('HGET', state_key, 'epoch') ~= epoch then return {-1, 0} end
local left = redis.call('PTTL', lock_key)
if left == -2 then
  redis.call('SET', lock_key, token, 'PX', ttl)
  redis.call('LREM', waiting_key, 0, place)
  return {redis.call('HINCRBY', state_key, 'sequence', 1), tonumber(ttl)}
end
if place ~= '' and not redis.call('LPOS', waiting_key, place) then
  redis.call(woken == '1' and 'LPUSH' or 'RPUSH', waiting_key, place)
  redis.call('PEXPIRE', waiting_key, 10 * tonumber(ttl))
end
return {0, left}
