-- Move claims from the queue into the claim log, the oldest first, where they wait to be issued as all others do.
--
-- KEYS  1 queue      list    sc:{7}:queue
--       2 log        stream  sc:{7}:log
-- ARGV  1 most               how many
--
-- Returns how many were moved.
--
-- Example: EVALSHA … 2 sc:{7}:queue sc:{7}:log   1000   → 17

local queue_key, log_key = KEYS[1], KEYS[2]

local oldest = redis.call('LRANGE', queue_key, '-' .. ARGV[1], '-1')
redis.call('XLEN', log_key)  -- its type, before the first write
for i = #oldest, 1, -1 do
  local user, ordinal, epoch, sequence, ms, request =
    string.match(oldest[i], '^(%d+):(%d+)%.(%d+)%.(%d+)%.(%d+)%.(.*)$')
  local more = request == '' and {} or {'r', request}
  redis.call('XADD', log_key, epoch .. '-' .. sequence, 'u', user, 'o', ordinal, 't', ms, unpack(more))
end
if #oldest > 0 then redis.call('LTRIM', queue_key, 0, -#oldest - 1) end
return #oldest
