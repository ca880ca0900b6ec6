-- Put an event's stock in place, built from the database. The state comes last: until then there is no stock. It notes
-- the run of the server that it is loaded on, and is good for that run only.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
--       4 loading    hash    sc:{7}:loading:<token>   the claimants, prepared by the caller (absent: none)
-- ARGV  1 epoch              of this load
--       2 available          quantity - issued
--       3 sequence           the highest known
--       4 …                  field, value, …    the rest of the state: status opens closes limit rate burst room
--
-- Returns {code, stock}:
--   0 LOADED       the stock: available, less the claims that wait in the log
--   1 STALE_EPOCH  an equal or younger load is in place; nothing was changed
--
-- Example: EVALSHA … 4 sc:{7}:state sc:{7}:claimants sc:{7}:log sc:{7}:loading:<token>   1 100 0   status published …   → {0, 100}

local state_key, claimants_key, log_key, loading_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local epoch, available, sequence = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local LOADED, STALE_EPOCH = 0, 1

local loaded = redis.call('HMGET', state_key, 'epoch', 'stock')
if loaded[1] and tonumber(loaded[1]) >= tonumber(epoch) then return {STALE_EPOCH, tonumber(loaded[2])} end
redis.call('HLEN', claimants_key)
local backlog = redis.call('XLEN', log_key)
local prepared = redis.call('HLEN', loading_key)
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

-- Claims of an older load may outnumber what the database has left: then there is nothing to sell, and the drain
-- rejects what is too much.
local stock = math.max(0, available - backlog)
if prepared > 0 then
  redis.call('RENAME', loading_key, claimants_key)
  redis.call('PERSIST', claimants_key)  -- the time to live was that of the loading
else
  redis.call('DEL', claimants_key)
end
redis.call('PERSIST', log_key)  -- it may have been left to expire
redis.call('DEL', state_key)
redis.call('HSET', state_key, 'epoch', epoch, 'stock', string.format('%d', stock), 'sequence', sequence,
  'drained', 0, 'nudged', 0, 'run', run, unpack(ARGV, 4))
return {LOADED, stock}
