-- Take drained claims out of the claim log, move the watermark on, and note what was issued for the polls that follow.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 log        stream  sc:{7}:log
--       3 issued     hash    sc:{7}:issued:<minute>   of the caller's clock
-- ARGV  1 epoch              of the watermark
--       2 drained            the highest sequence of that epoch that is in the database
--       3 ttl                seconds that the issued coupons are kept from the first of their minute on
--       4 fields             how many ARGV the issued coupons take: field, value, …
--       5 …                  field, value, …    epoch-sequence:user, code.microseconds
--       then the log entries, epoch-sequence, those of the issued coupons among them
--
-- Returns the number of entries that were still there. Settling twice is harmless.
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:log sc:{7}:issued:<minute>
--   1 3 120 2 1-3:42 7KQM-X2PD-94TB-ZWHA.1795234234123456 1-1 1-2 1-3   → 3
--
-- The log comes first: a server whose memory is full refuses a script whose first write may take more.

local state_key, log_key, issued_key = KEYS[1], KEYS[2], KEYS[3]
local epoch, drained, ttl, fields = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])

local state = redis.call('HMGET', state_key, 'epoch', 'drained')
redis.call('XLEN', log_key)  -- its type, before the first write
local is_first = fields > 0 and redis.call('HLEN', issued_key) == 0

local removed = 0
if #ARGV > 4 + fields then removed = redis.call('XDEL', log_key, unpack(ARGV, 5 + fields)) end
if state[1] == epoch and drained > tonumber(state[2]) then
  redis.call('HSET', state_key, 'drained', ARGV[2])
end
if fields > 0 then redis.call('HSET', issued_key, unpack(ARGV, 5, 4 + fields)) end
if is_first then redis.call('EXPIRE', issued_key, ttl) end
return removed
