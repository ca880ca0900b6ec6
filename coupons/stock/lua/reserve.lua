-- Take units and sequence numbers for each of n claims, and append them to the claim log. All or nothing a claim.
--
-- KEYS  1 state      hash    sc:{7}:state
--       2 claimants  hash    sc:{7}:claimants
--       3 log        stream  sc:{7}:log
--       4 passes     zset    sc:{7}:passes          of the waiting room, and so the next two: read where the sale has one
--       5 tickets    hash    sc:{7}:tickets
--       6 room_log   list    sc:{7}:room_log
--       7 … 6+n      string  sc:{7}:bucket:<user>   one a claim, in the order of ARGV
-- ARGV  1 epoch              the load the caller believes in (the database's)
--       then three a claim:
--       user                 its id
--       request              a short digest of the Idempotency-Key, or "" where there is none
--       quantity             the units that are wanted, at least 1
--
-- Returns {now_ms, stock, drained, nudge, claim, …}: `drained` is the highest sequence of this epoch that the database
-- has, `nudge` is 1 where a worker should be told (below), then for each claim {code, …}:
--   0 ACCEPTED         epoch, sequence, claimed_ms, quantity   the sequence of its first unit; the others have the next
--   1 REPEATED         likewise   the same request again: its first answer, paused or closed as well
--   2 ALREADY_CLAIMED  likewise   another request, which would go over the user's limit: the last claim that is held
--   3 SOLD_OUT                    there are not so many units left
--   4 NOT_OPEN         opens_ms
--   5 CLOSED
--   6 PAUSED
--   7 RATE_LIMITED     milliseconds until a request would be let through
--   8 NOT_LOADED       there is no stock of this event here
--   9 WRONG_EPOCH      the epoch that is loaded
--  10 OTHER_RUN        the stock was loaded on another run of the server: what is here may have lost the last claims
--  11 NOT_ADMITTED     the sale has a waiting room, and the user no pass that is good
--  12 OVER_LIMIT       the limit: more units than a user may have at all
--
-- Example, one claim of user 42 on event 7 in epoch 1:
--   EVALSHA … 7 sc:{7}:state sc:{7}:claimants sc:{7}:log sc:{7}:passes sc:{7}:tickets sc:{7}:room_log sc:{7}:bucket:42
--             1   42 k3JxQ0aVb1c 1
--   → {1795234234123, 99, 0, 1, {0, 1, 1, 1795234234123, 1}}
--
-- A run is one life of a server, from its start to its end; INFO names it. A server that was restarted, restored or
-- promoted sells nothing until the stock is loaded on it anew: it could give numbers that were given already.
-- A user's units are one string, oldest first, joined by ";": ordinal.epoch.sequence.claimed_ms.request, and of a claim of
-- several .place.quantity behind it. The log has an entry a unit, too: its length is the number of units that wait.
-- The bucket is the generic cell rate algorithm (ITU-T I.371): one number, the theoretical arrival time in µs.
-- A worker drains until the log is empty, so only claims that found it empty need one to be told: at most once in 100 ms,
-- which whoever comes next makes up for. While a log stays full a worker is told once a second, for nudges get lost.
-- Every key is read, and so its type checked, before the first write: Redis does not roll a script back.

local state_key, claimants_key, log_key = KEYS[1], KEYS[2], KEYS[3]
local passes_key, tickets_key, room_log_key = KEYS[4], KEYS[5], KEYS[6]
local epoch = ARGV[1]
local n = #KEYS - 6

local ACCEPTED, REPEATED, ALREADY_CLAIMED, SOLD_OUT = 0, 1, 2, 3
local NOT_OPEN, CLOSED, PAUSED, RATE_LIMITED, NOT_LOADED, WRONG_EPOCH, OTHER_RUN, NOT_ADMITTED = 4, 5, 6, 7, 8, 9, 10, 11
local OVER_LIMIT = 12
local NUDGE_EVERY_MS, NUDGE_AGAIN_MS = 100, 1000

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now_us / 1000)

local function integer(number)
  return string.format('%d', number)  -- tostring() loses digits from the fifteenth on
end

local function all_alike(stock, drained, claim)
  local reply = {now_ms, stock, drained, 0}
  for i = 1, n do reply[4 + i] = claim end
  return reply
end

-- Checks ---------------------------------------------------------------------------------------------------------------

local state = redis.call('HMGET', state_key,
  'epoch', 'stock', 'sequence', 'drained', 'status', 'opens', 'closes', 'limit', 'rate', 'burst', 'nudged', 'run', 'room', 'untold')
if not state[1] then return all_alike(0, 0, {NOT_LOADED}) end

local stock, sequence, drained = tonumber(state[2]), tonumber(state[3]), tonumber(state[4])
local status, opens, closes = state[5], tonumber(state[6]), tonumber(state[7])
local limit, rate, burst, nudged = tonumber(state[8]), tonumber(state[9]), tonumber(state[10]), tonumber(state[11])

if state[1] ~= epoch then return all_alike(stock, drained, {WRONG_EPOCH, tonumber(state[1])}) end
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if state[12] ~= run then return all_alike(stock, drained, {OTHER_RUN}) end
local shut = nil  -- what everybody is told who does not merely ask again
if status == 'closed' or now_ms >= closes then
  shut = {CLOSED}
elseif status == 'paused' then
  shut = {PAUSED}
elseif now_ms < opens then
  shut = {NOT_OPEN, opens}
end

local users, buckets = {}, {}
for i = 1, n do
  users[i] = ARGV[3 * i - 1]
  buckets[i] = KEYS[6 + i]
end
local held_by = redis.call('HMGET', claimants_key, unpack(users))
local arrivals = redis.call('MGET', unpack(buckets))  -- nil for a key of another type, which SET then replaces
local waiting = redis.call('XLEN', log_key)
local untold = waiting == 0 or state[14] == '1'
local admitted = nil  -- by user, until when; nil where all may claim
if state[13] == '1' then
  admitted = {}
  for i, expires in ipairs(redis.call('ZMSCORE', passes_key, unpack(users))) do admitted[users[i]] = tonumber(expires) end
  redis.call('HLEN', tickets_key)
  redis.call('LLEN', room_log_key)
end

local interval_us = 1000000 / rate
local tolerance_us = interval_us * burst
local held, arrival = {}, {}   -- by user: one batch may hold a user twice
local reply = {0, 0, 0, 0}
local accepted, touched = {}, {}

local NONE, FIRST = {}, {1}

local function units_of(text)
  if text == '' then return NONE end
  local units = {}
  for ordinal, of_epoch, of_sequence, ms, request, place, quantity in
      string.gmatch(text, '(%d+)%.(%d+)%.(%d+)%.(%d+)%.([^;.]*)%.?(%d*)%.?(%d*)') do
    units[#units + 1] = {ordinal = tonumber(ordinal), request = request,
      claim = {tonumber(of_epoch), tonumber(of_sequence) - (tonumber(place) or 1) + 1, tonumber(ms), tonumber(quantity) or 1}}
  end
  return units
end

local function free_ordinals(units, quantity)
  if #units == 0 and quantity == 1 then return FIRST end
  local taken, free = {}, {}
  for _, unit in ipairs(units) do taken[unit.ordinal] = true end
  local ordinal = 1
  while #free < quantity do
    if not taken[ordinal] then free[#free + 1] = ordinal end
    ordinal = ordinal + 1
  end
  return free
end

local function first_answer(units, request)
  if request == '' then return nil end
  for _, unit in ipairs(units) do
    if unit.request == request then return {REPEATED, unpack(unit.claim)} end
  end
  return nil
end

local function decide(i)
  local user, request, quantity = users[i], ARGV[3 * i], tonumber(ARGV[3 * i + 1])
  if shut then return first_answer(units_of(held_by[i] or ''), request) or shut end
  local has_pass = not admitted or (admitted[user] or 0) > now_ms

  local due = math.max(arrival[user] or tonumber(arrivals[i] or 0), now_us) + interval_us
  if due - now_us > tolerance_us then
    return {RATE_LIMITED, math.ceil((due - now_us - tolerance_us) / 1000)}
  end
  arrival[user] = due
  touched[user] = buckets[i]

  local text = held[user] or held_by[i] or ''
  local units = units_of(text)
  local repeated = first_answer(units, request)
  if repeated then return repeated end
  if #units + quantity > limit then
    if #units == 0 then return {OVER_LIMIT, limit} end
    return {ALREADY_CLAIMED, unpack(units[#units].claim)}
  end
  if stock < quantity then return {SOLD_OUT} end
  if not has_pass then return {NOT_ADMITTED} end
  if admitted then admitted[user] = nil end  -- a pass is good for one claim

  local first, ordinals = sequence + 1, free_ordinals(units, quantity)
  stock = stock - quantity
  sequence = sequence + quantity
  for place = 1, quantity do
    local record = ordinals[place] .. '.' .. epoch .. '.' .. integer(first + place - 1) .. '.' .. integer(now_ms) .. '.' .. request
    if quantity > 1 then record = record .. '.' .. place .. '.' .. quantity end
    text = text == '' and record or text .. ';' .. record
  end
  held[user] = text
  accepted[#accepted + 1] = {user, first, ordinals, request}
  return {ACCEPTED, tonumber(epoch), first, now_ms, quantity}
end

for i = 1, n do reply[4 + i] = decide(i) end

-- Writes ---------------------------------------------------------------------------------------------------------------

if #accepted > 0 then
  local t, now_held = integer(now_ms), {}
  for i, claim in ipairs(accepted) do
    local first, ordinals, more = claim[2], claim[3], claim[4] == '' and {} or {'r', claim[4]}
    local of_more = #more
    for place, ordinal in ipairs(ordinals) do
      if #ordinals > 1 then
        more[of_more + 1], more[of_more + 2], more[of_more + 3], more[of_more + 4] = 'p', place, 'q', #ordinals
      end
      redis.call('XADD', log_key, epoch .. '-' .. integer(first + place - 1), 'u', claim[1], 'o', ordinal, 't', t, unpack(more))
    end
    now_held[2 * i - 1], now_held[2 * i] = claim[1], held[claim[1]]
  end
  redis.call('HSET', claimants_key, unpack(now_held))
  if now_ms - nudged >= (untold and NUDGE_EVERY_MS or NUDGE_AGAIN_MS) then
    nudged, untold = now_ms, false
    reply[4] = 1
  end
  if admitted then
    for _, claim in ipairs(accepted) do
      local ticket = redis.call('HGET', tickets_key, claim[1])
      redis.call('ZREM', passes_key, claim[1])
      redis.call('HDEL', tickets_key, claim[1])
      redis.call('RPUSH', room_log_key, 'g.' .. claim[1] .. '.' .. string.match(ticket or '0.0', '%d+%.(%d+)'))
    end
  end
  redis.call('HSET', state_key, 'stock', integer(stock), 'sequence', integer(sequence), 'nudged', integer(nudged),
    'untold', untold and 1 or 0)
end
for user, bucket in pairs(touched) do
  redis.call('SET', bucket, integer(arrival[user]), 'PX', math.ceil((arrival[user] - now_us) / 1000))
end

reply[1], reply[2], reply[3] = now_ms, stock, drained
return reply
