-- Read everything about an event's stock at one moment.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
--       4 queue      list    sc:{7}:queue
-- ARGV  none
--
-- Returns {now_ms, epoch, stock, sequence, drained, status, backlog, claimants, oldest_ms, same_run}:
-- `epoch` is 0 where no stock is loaded, `backlog` how many claims the log and the queue before it hold, `oldest_ms` when
-- the first was made (0: there is none), `same_run` is 1 where the stock was loaded on this run of the server.
--
-- Example: EVALSHA … 4 sc:{7}:state sc:{7}:claimants sc:{7}:log sc:{7}:queue
--   → {1795234234123, 1, 98, 2, 1, "published", 1, 2, 1795234234100, 1}

local state_key, claimants_key, log_key, queue_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local state = redis.call('HMGET', state_key, 'epoch', 'stock', 'sequence', 'drained', 'status', 'run')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local oldest_ms = 0
local first = redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1)[1]
if first then
  local fields = first[2]
  for i = 1, #fields, 2 do
    if fields[i] == 't' then oldest_ms = tonumber(fields[i + 1]) end
  end
else
  local queued = redis.call('LINDEX', queue_key, -1)
  if queued then oldest_ms = tonumber(string.match(queued, '^%d+:%d+%.%d+%.%d+%.(%d+)')) end
end
return {now_ms, tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0), tonumber(state[4] or 0),
  state[5] or '', redis.call('XLEN', log_key) + redis.call('LLEN', queue_key), redis.call('HLEN', claimants_key),
  oldest_ms, state[6] == run and 1 or 0}
