-- Undo a claim: out of the claim log, out of its owner's claims, and its unit back into stock.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
-- ARGV  1 entry              the claim, epoch-sequence
--       2 user               its owner
--       3 units              1, or 0 for a claim whose unit the database never had
--
-- Returns 1 where the claim was in the log, 0 where it was not (then no unit is given: releasing twice gives one).
-- Where the stock is not loaded the unit is not lost: a load counts what is neither issued nor in the log.
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:claimants sc:{7}:log   1-42 4711 1   → 1

local state_key, claimants_key, log_key = KEYS[1], KEYS[2], KEYS[3]
local entry, user, units = ARGV[1], ARGV[2], tonumber(ARGV[3])
local epoch, sequence = string.match(entry, '^(%d+)-(%d+)$')

local stock = redis.call('HGET', state_key, 'stock')
local held = redis.call('HGET', claimants_key, user)
redis.call('XLEN', log_key)  -- its type, before the first write

local removed = redis.call('XDEL', log_key, entry)
if removed == 1 and stock then redis.call('HINCRBY', state_key, 'stock', units) end
if held then
  local kept = {}
  for record in string.gmatch(held, '[^;]+') do
    local of_epoch, of_sequence = string.match(record, '^%d+%.(%d+)%.(%d+)%.')
    if of_epoch ~= epoch or of_sequence ~= sequence then kept[#kept + 1] = record end
  end
  if #kept == 0 then
    redis.call('HDEL', claimants_key, user)
  else
    redis.call('HSET', claimants_key, user, table.concat(kept, ';'))
  end
end
return removed
