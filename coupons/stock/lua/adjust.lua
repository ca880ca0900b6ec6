-- Change a loaded stock: its units, its window and limits, who holds what. Operators and the reconciler do this.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
-- ARGV  1 epoch              the load that is meant
--       2 delta              units to add, or to take where negative
--       3 fields             how many ARGV the state takes: field, value, …
--       4 …                  field, value, …    e.g. status paused
--       then two a claimant to add: user, record (ordinal.epoch.sequence.claimed_ms.request)
--
-- Returns {code, stock}:
--   0 ADJUSTED      the stock afterwards
--   1 NOT_LOADED
--   2 WRONG_EPOCH
--   3 INSUFFICIENT  the stock holds fewer units than were to be taken; nothing was changed
--
-- Example, five units fewer and a pause:
--   EVALSHA … 3 sc:{7}:state sc:{7}:claimants sc:{7}:log   1 -5 2 status paused   → {0, 95}
--
-- Keys that were left to expire are kept again: a sale may be moved on after its end. Who is to let them go says so anew.

local state_key, claimants_key, log_key = KEYS[1], KEYS[2], KEYS[3]
local epoch, delta, fields = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local ADJUSTED, NOT_LOADED, WRONG_EPOCH, INSUFFICIENT = 0, 1, 2, 3

local state = redis.call('HMGET', state_key, 'epoch', 'stock')
if not state[1] then return {NOT_LOADED, 0} end
local stock = tonumber(state[2]) + delta
if state[1] ~= epoch then return {WRONG_EPOCH, tonumber(state[2])} end
if stock < 0 then return {INSUFFICIENT, tonumber(state[2])} end
redis.call('HLEN', claimants_key)  -- their types, before the first write
redis.call('XLEN', log_key)

redis.call('HSET', state_key, 'stock', string.format('%d', stock), unpack(ARGV, 4, 3 + fields))
for i = 4 + fields, #ARGV, 2 do
  local user, record = ARGV[i], ARGV[i + 1]
  local name = string.match(record, '^%d+(%.%d+%.%d+%.)')
  local held = redis.call('HGET', claimants_key, user)
  if not held then
    redis.call('HSET', claimants_key, user, record)
  elseif not string.find(held, name, 1, true) then
    redis.call('HSET', claimants_key, user, held .. ';' .. record)
  end
end
for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
return {ADJUSTED, stock}
