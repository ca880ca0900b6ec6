-- Undo claims: out of the claim log, out of their owners' claims, and their units back into stock.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
-- ARGV  1 units              for each claim 1, or 0 where the database never had its unit
--       then two a claim:
--       entry                the claim, epoch-sequence
--       user                 its owner
--
-- Returns how many of the claims were in the log (for the others no unit is given: releasing twice gives one).
-- Where the stock is not loaded the units are not lost: a load counts what is neither issued nor in the log.
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:claimants sc:{7}:log   1 1-42 4711   → 1

local state_key, claimants_key, log_key = KEYS[1], KEYS[2], KEYS[3]
local units = tonumber(ARGV[1])

local stock = redis.call('HGET', state_key, 'stock')
redis.call('HLEN', claimants_key)  -- their types, before the first write
redis.call('XLEN', log_key)

local function forget(user, entry)
  local held = redis.call('HGET', claimants_key, user)
  if not held then return end
  local epoch, sequence = string.match(entry, '^(%d+)-(%d+)$')
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

local removed = 0
for i = 2, #ARGV, 2 do
  local entry, user = ARGV[i], ARGV[i + 1]
  removed = removed + redis.call('XDEL', log_key, entry)
  forget(user, entry)
end
if stock and units * removed > 0 then redis.call('HINCRBY', state_key, 'stock', units * removed) end
return removed
