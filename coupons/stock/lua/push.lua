-- Queue a claim: whether there is a unit for it is decided later, by the worker. All or nothing.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 queue      list    sc:{7}:queue
-- ARGV  1 epoch              the load the caller believes in (the database's)
--       2 user               its id
--       3 request            a short digest of the Idempotency-Key, or "" where there is none
--       4 sold_out           1 where the database has issued all
--
-- Returns {drained, nudge, {code, …}}: `nudge` is 1 where a worker should be told, the codes and what follows them are
-- those of reserve.lua:
--   0 ACCEPTED         epoch, sequence, claimed_ms
--   1 REPEATED         epoch, sequence, claimed_ms
--   2 ALREADY_CLAIMED  epoch, sequence, claimed_ms
--   3 SOLD_OUT
--   4 NOT_OPEN         opens_ms
--   5 CLOSED
--   6 PAUSED
--   8 NOT_LOADED
--   9 WRONG_EPOCH      the epoch that is loaded
--  10 OTHER_RUN
--
-- Example: EVALSHA … 3 sc:{7}:state sc:{7}:claimants sc:{7}:queue   1 42 k3JxQ0aVb1c 0
--   → {0, 1, {0, 1, 1, 1795234234123}}
--
-- The number is given in the same script as the push: the queue is in the order of the numbers.

local state_key, claimants_key, queue_key = KEYS[1], KEYS[2], KEYS[3]
local epoch, user, request = ARGV[1], ARGV[2], ARGV[3]
local ACCEPTED, REPEATED, ALREADY_CLAIMED, SOLD_OUT = 0, 1, 2, 3
local NOT_OPEN, CLOSED, PAUSED, NOT_LOADED, WRONG_EPOCH, OTHER_RUN = 4, 5, 6, 8, 9, 10
local NUDGE_EVERY_MS = 100

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local state = redis.call('HMGET', state_key, 'epoch', 'status', 'opens', 'closes', 'limit', 'run',
  'drained', 'nudged')
if not state[1] then return {0, 0, {NOT_LOADED}} end
local drained = tonumber(state[7])
if state[1] ~= epoch then return {drained, 0, {WRONG_EPOCH, tonumber(state[1])}} end
if state[6] ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return {drained, 0, {OTHER_RUN}} end

local held = redis.call('HGET', claimants_key, user) or ''
redis.call('LLEN', queue_key)  -- its type, before the first write
local ordinal, last, taken = 1, nil, {}
for number, of_epoch, sequence, ms, of_request in string.gmatch(held, '(%d+)%.(%d+)%.(%d+)%.(%d+)%.([^;]*)') do
  last = {ALREADY_CLAIMED, tonumber(of_epoch), tonumber(sequence), tonumber(ms)}
  if request ~= '' and of_request == request then
    last[1] = REPEATED
    return {drained, 0, last}
  end
  taken[#taken + 1] = true
  if tonumber(number) == ordinal then ordinal = ordinal + 1 end
end
if state[2] == 'closed' or now_ms >= tonumber(state[4]) then return {drained, 0, {CLOSED}} end
if state[2] == 'paused' then return {drained, 0, {PAUSED}} end
if now_ms < tonumber(state[3]) then return {drained, 0, {NOT_OPEN, tonumber(state[3])}} end
if #taken >= tonumber(state[5]) then return {drained, 0, last} end
if ARGV[4] == '1' then return {drained, 0, {SOLD_OUT}} end

local sequence = redis.call('HINCRBY', state_key, 'sequence', 1)
local ms = string.format('%d', now_ms)
local record = table.concat({ordinal, epoch, string.format('%d', sequence), ms, request}, '.')
redis.call('HSET', claimants_key, user, held == '' and record or held .. ';' .. record)
redis.call('LPUSH', queue_key, user .. ':' .. record)
local nudge = now_ms - tonumber(state[8]) >= NUDGE_EVERY_MS
if nudge then redis.call('HSET', state_key, 'nudged', ms) end
return {drained, nudge and 1 or 0, {ACCEPTED, tonumber(epoch), sequence, now_ms}}
