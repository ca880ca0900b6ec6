-- Undo claims, unit by unit: out of the claim log, out of their owners' claims, and the units back into stock.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
-- ARGV  1 back               which of the units go back into stock:
--                            log    those whose entry was in the log
--                            owner  those that their owner was known to have, for they may have left the log
--                            none   none: the database never had them
--       then two a unit:
--       entry                epoch-sequence
--       user                 its owner
--
-- Returns how many of the units were there: in the log, or known as their owner's. Releasing twice gives a unit once.
-- Where the stock is not loaded the units are not lost: a load counts what is neither issued nor in the log.
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:claimants sc:{7}:log   log 1-42 4711   → 1

local state_key, claimants_key, log_key = KEYS[1], KEYS[2], KEYS[3]
local back = ARGV[1]

local stock = redis.call('HGET', state_key, 'stock')
redis.call('HLEN', claimants_key)  -- their types, before the first write
redis.call('XLEN', log_key)

local function forget(user, entry)
  local held = redis.call('HGET', claimants_key, user)
  if not held then return 0 end
  local epoch, sequence = string.match(entry, '^(%d+)-(%d+)$')
  local kept, found = {}, 0
  for record in string.gmatch(held, '[^;]+') do
    local of_epoch, of_sequence = string.match(record, '^%d+%.(%d+)%.(%d+)%.')
    if of_epoch == epoch and of_sequence == sequence then
      found = 1
    else
      kept[#kept + 1] = record
    end
  end
  if #kept == 0 then
    redis.call('HDEL', claimants_key, user)
  else
    redis.call('HSET', claimants_key, user, table.concat(kept, ';'))
  end
  return found
end

local removed = 0
for i = 2, #ARGV, 2 do
  local entry, user = ARGV[i], ARGV[i + 1]
  local logged, known = redis.call('XDEL', log_key, entry), forget(user, entry)
  removed = removed + (back == 'owner' and known or logged)
end
if stock and back ~= 'none' and removed > 0 then redis.call('HINCRBY', state_key, 'stock', removed) end
return removed
