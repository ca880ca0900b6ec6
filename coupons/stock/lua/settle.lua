-- Take drained claims out of the claim log and move the watermark on.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 log        stream  sc:{7}:log
-- ARGV  1 epoch              of the watermark
--       2 drained            the highest sequence of that epoch that is in the database
--       3 …                  the log entries, epoch-sequence
--
-- Returns the number of entries that were still there. Settling twice is harmless.
--
-- Example: EVALSHA … 2 sc:{7}:state sc:{7}:log   1 3   1-1 1-2 1-3   → 3

local state_key, log_key = KEYS[1], KEYS[2]
local epoch, drained = ARGV[1], tonumber(ARGV[2])

local state = redis.call('HMGET', state_key, 'epoch', 'drained')
redis.call('XLEN', log_key)  -- its type, before the first write

local removed = 0
if #ARGV > 2 then removed = redis.call('XDEL', log_key, unpack(ARGV, 3)) end
if state[1] == epoch and drained > tonumber(state[2]) then
  redis.call('HSET', state_key, 'drained', ARGV[2])
end
return removed
