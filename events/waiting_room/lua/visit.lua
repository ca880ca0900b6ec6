-- Let people into the waiting room, out of it, and on: each of n visitors joins, asks where they stand, or leaves.
--
-- KEYS  1 state      hash    sc:{7}:state        the stock's, as the next one: read, never written
--       2 claimants  hash    sc:{7}:claimants
--       3 room       hash    sc:{7}:room         counters
--       4 tickets    hash    sc:{7}:tickets      user → lane.number.next.interval.hasty
--       5 line_0     zset    sc:{7}:line:0       user by rank: who waits
--       6 line_1     zset    sc:{7}:line:1
--       7 called     zset    sc:{7}:called       user by ms: whose turn it is, until when they should have come
--       8 missed     zset    sc:{7}:missed       user by ms: who was away, until when their turn is kept
--       9 passes     zset    sc:{7}:passes       user by ms: who may claim, until when
--      10 room_log   list    sc:{7}:room_log     what the database is to know: j(oined), c(alled), g(one)
--      11 … 10+n     string  sc:{7}:left:<user>  there while who has left must not join again
-- ARGV  1 rate          people let in a second
--       2 max_active    passes at once
--       3 pass_ttl      ms
--       4 grace         ms
--       5 seed          of the shuffle, "" for first come, first served
--       6 may_return    1 while units that are gone may come back, being held only: then the queue goes on without any
--       then three a visitor:
--       act             join, ask or leave
--       user            its id
--       lane            0 is served before 1
--
-- Returns {now_ms, serving, waiting, stock, visitor, …}: `serving` is how many have been called so far, `stock` the
-- units that nobody has a pass for; then for each visitor {code, …}:
--   0 WAITING       number, ahead, before, eta_ms, poll_ms   ahead is of the lane, before of all; -1: nobody knows
--   1 ADMITTED      number, expires_ms, poll_ms
--   2 LEFT
--   3 NO_TICKET
--   4 SOLD_OUT
--   5 CLOSED
--   6 RATE_LIMITED  ms until they were told to come again
--   7 NOT_LOADED    there is no stock of this event here, or it is of another run of the server
--   8 ALREADY_CLAIMED  epoch, sequence, claimed_ms, quantity, drained   who holds as many units as they may: the last
--                      claim, as in reserve.lua, and the highest sequence that the database has
--
-- Example, user 42 joins event 7, which lets in 50 a second:
--   EVALSHA … 11 sc:{7}:state sc:{7}:claimants sc:{7}:room sc:{7}:tickets sc:{7}:line:0 sc:{7}:line:1 sc:{7}:called sc:{7}:missed sc:{7}:passes sc:{7}:room_log sc:{7}:left:42
--             50 500 120000 120000 "" 0   join 42 1
--   → {1795234234123, 1, 0, 99, {1, 1, 1795234354123, 5000}}
--
-- Nobody admits on a schedule. With every visit so many are *called* as the time since the last one allows (a token
-- bucket, filled at the rate), the first in line first, lane 0 before lane 1, and no more than there are free passes and
-- units. Who is called gets the pass on their next visit. Who is known to be away, because they did not come when they
-- were told to, is passed over; who does not come while called frees the turn for the next. Both are *missed*: their turn
-- is kept for the grace, and they are called before the line when they are back. They never stand in line again, so
-- nobody's rank goes up.
-- Who came before the opening of a shuffle ranks by a keyed hash of their number, everybody else by the number.
-- Every key is read, and so its type checked, before the first write: Redis does not roll a script back.

local state_key, claimants_key, room_key, tickets_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local line_0_key, line_1_key = KEYS[5], KEYS[6]
local called_key, missed_key, passes_key, room_log_key = KEYS[7], KEYS[8], KEYS[9], KEYS[10]
local lines = {[0] = line_0_key, [1] = line_1_key}
local rate, max_active = tonumber(ARGV[1]), tonumber(ARGV[2])
local pass_ttl, grace, seed, may_return = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1'
local n = #KEYS - 10

local WAITING, ADMITTED, LEFT, NO_TICKET, SOLD_OUT, CLOSED, RATE_LIMITED, NOT_LOADED = 0, 1, 2, 3, 4, 5, 6, 7
local ALREADY_CLAIMED = 8
local LATE = 4503599627370496        -- 2^52: ranks below are of the shuffle
local SLACK_MS = 2000                -- of the network, behind the moment at which a visitor was to come at the latest
local LONGEST_MS = 30000             -- between two visits
local LAST_MINUTE = 60000            -- before the opening; twice the longest, so that everybody visits in it
local JITTER = 0.3                   -- the share of the time, at most, that a visitor comes later than told here
local HASTE = 20                     -- visits before the time that are borne with
local AWAY_MS = 2000                 -- from leaving to joining again, at least
local AT_MOST = 500                  -- whom one script calls, and of each kind that it clears away
local KEPT_S = 0.3                   -- seconds of the rate that the line can be behind, or those who are back ahead

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function integer(number)
  return string.format('%d', number)
end

-- Checks ---------------------------------------------------------------------------------------------------------------

local state = redis.call('HMGET', state_key, 'stock', 'status', 'opens', 'closes', 'run', 'limit', 'drained')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not state[1] or state[5] ~= run then
  local reply = {now_ms, 0, 0, 0}
  for i = 1, n do reply[4 + i] = {NOT_LOADED} end
  return reply
end
local stock, status, opens, closes = tonumber(state[1]), state[2], tonumber(state[3]), tonumber(state[4])
local is_over = status == 'closed' or now_ms >= closes
local is_paused = status == 'paused'
local is_open = not is_paused and now_ms >= opens
local is_sold_out = is_open and stock < 1 and not may_return

local room = redis.call('HMGET', room_key,
  'number', 'serving', 'tokens', 'moved', 'observed', 'counted_from', 'counted', 'paused', 'opened')
local number, serving = tonumber(room[1] or 0), tonumber(room[2] or 0)
local tokens, moved = tonumber(room[3] or 1), tonumber(room[4] or now_ms)
local observed, counted_from, counted = tonumber(room[5] or -1), tonumber(room[6] or now_ms), tonumber(room[7] or 0)
local paused = tonumber(room[8] or 0)
local has_opened = room[9] == '1' or now_ms >= opens  -- once and for all, though the opening be put off

if is_over then  -- for good: keys that are written to now would outlive the event
  local reply = {now_ms, serving, 0, 0}
  for i = 1, n do reply[4 + i] = {ARGV[4 + 3 * i] == 'leave' and LEFT or CLOSED} end
  return reply
end

local limit, drained = tonumber(state[6]), tonumber(state[7])

-- The last claim of who holds as many as they may; nil where there may be another.
local function claimed_already(text)
  if not text then return nil end
  local units, last = 0, nil
  for epoch, sequence, ms, place, quantity in
      string.gmatch(text, '%d+%.(%d+)%.(%d+)%.(%d+)%.[^;.]*%.?(%d*)%.?(%d*)') do
    local first = tonumber(sequence) - (tonumber(place) or 1) + 1
    units, last = units + 1, {ALREADY_CLAIMED, tonumber(epoch), first, tonumber(ms), tonumber(quantity) or 1, drained}
  end
  return units >= limit and last or nil
end

local users, left_for = {}, {}  -- left_for by user: ms until they may join again
for i = 1, n do
  users[i] = ARGV[5 + 3 * i]
  left_for[users[i]] = redis.call('PTTL', KEYS[10 + i])
end
local held_by = redis.call('HMGET', claimants_key, unpack(users))
redis.call('HLEN', tickets_key)
local in_line = {[0] = redis.call('ZCARD', lines[0]), [1] = redis.call('ZCARD', lines[1])}
local called, passes = redis.call('ZCARD', called_key), redis.call('ZCARD', passes_key)
redis.call('ZCARD', missed_key)
redis.call('LLEN', room_log_key)

-- Tickets --------------------------------------------------------------------------------------------------------------

local function parse(text)
  local lane, of_number, next_ds, interval_ds, hasty = string.match(text, '(%d)%.(%d+)%.(%d+)%.(%d+)%.(%d+)')
  return {lane = tonumber(lane), number = tonumber(of_number), next_ms = tonumber(next_ds) * 100,
    interval_ms = tonumber(interval_ds) * 100, hasty = tonumber(hasty)}
end

local function keep(user, ticket)
  local next_ds, interval_ds = math.floor(ticket.next_ms / 100), math.floor(ticket.interval_ms / 100)
  redis.call('HSET', tickets_key, user,
    table.concat({ticket.lane, integer(ticket.number), integer(next_ds), integer(interval_ds), ticket.hasty}, '.'))
end

-- The moment by which an obedient visitor has come, whatever jitter they were given.
local function expected_by(ticket)
  return ticket.next_ms + JITTER * ticket.interval_ms + SLACK_MS
end

local function log(what, user, of_number, more)
  redis.call('RPUSH', room_log_key, what .. '.' .. user .. '.' .. integer(of_number) .. (more or ''))
end

local function forget(user)
  local text = redis.call('HGET', tickets_key, user)
  if text then
    redis.call('HDEL', tickets_key, user)
    log('g', user, parse(text).number)
  end
end

local function join(user, lane)
  number = number + 1
  local rank = number + LATE
  if not has_opened then
    rank = seed == '' and number or tonumber(string.sub(redis.sha1hex(seed .. ':' .. integer(number)), 1, 13), 16)
  end
  local ticket = {lane = lane, number = number, next_ms = now_ms, interval_ms = 0, hasty = 0}
  redis.call('ZADD', lines[lane], integer(rank), user)
  in_line[lane] = in_line[lane] + 1
  keep(user, ticket)
  log('j', user, number, '.' .. lane .. '.' .. integer(rank) .. '.' .. integer(now_ms))
end

-- From leaving to joining again; in the last minute before a shuffle opens, as long as that lasts.
local function away_for()
  local until_open = opens - now_ms
  return seed ~= '' and until_open <= LAST_MINUTE and math.max(AWAY_MS, until_open) or AWAY_MS
end

local function leave(user)
  local text = redis.call('HGET', tickets_key, user)
  if not text then return end
  local lane = parse(text).lane
  in_line[lane] = in_line[lane] - redis.call('ZREM', lines[lane], user)
  local was_called = redis.call('ZREM', called_key, user)
  called, tokens = called - was_called, tokens + was_called
  passes = passes - redis.call('ZREM', passes_key, user)
  redis.call('ZREM', missed_key, user)
  forget(user)
end

-- The line -------------------------------------------------------------------------------------------------------------

local function past(key)
  return redis.call('ZRANGEBYSCORE', key, '-inf', integer(now_ms), 'LIMIT', 0, AT_MOST)
end

local function put_off(key, by)
  local members = redis.call('ZRANGE', key, 0, -1)
  for _, user in ipairs(members) do redis.call('ZINCRBY', key, integer(by), user) end
end

local function clear_away()
  for _, user in ipairs(past(passes_key)) do
    passes = passes - redis.call('ZREM', passes_key, user)
    forget(user)
  end
  for _, user in ipairs(past(called_key)) do
    called = called - redis.call('ZREM', called_key, user)
    tokens = tokens + 1
    redis.call('ZADD', missed_key, integer(now_ms + grace), user)
  end
  for _, user in ipairs(past(missed_key)) do
    redis.call('ZREM', missed_key, user)
    forget(user)
  end
end

local function free()
  return math.min(max_active, stock) - passes - called
end

local function call_next()
  local calls = 0
  while calls < AT_MOST and tokens >= 1 and free() > 0 do
    local lane = in_line[0] > 0 and 0 or 1
    if in_line[lane] < 1 then break end
    local user = redis.call('ZPOPMIN', lines[lane])[1]
    in_line[lane] = in_line[lane] - 1
    serving, counted, calls = serving + 1, counted + 1, calls + 1
    local ticket = parse(redis.call('HGET', tickets_key, user))
    local by = expected_by(ticket)
    if by >= now_ms then
      tokens, called = tokens - 1, called + 1
      redis.call('ZADD', called_key, integer(math.max(by, now_ms + SLACK_MS)), user)
    else
      redis.call('ZADD', missed_key, integer(now_ms + grace), user)
    end
    log('c', user, ticket.number)
  end
end

-- Whose time is over goes first: they may join again in this very call. While the sale is paused nobody's time runs.
local function let_time_pass()
  if is_paused then
    if paused == 0 then paused = now_ms end
    return
  end
  if paused > 0 then
    for _, key in ipairs({called_key, missed_key, passes_key}) do put_off(key, now_ms - paused) end
    paused = 0
  end
  clear_away()
end

local function move_on()
  if not is_open or is_sold_out then
    moved, counted_from, counted = now_ms, now_ms, 0
    return
  end
  tokens = math.min(1 + rate * KEPT_S, tokens + rate * math.max(0, now_ms - math.max(moved, opens)) / 1000)
  moved = now_ms
  call_next()
  if now_ms - counted_from >= 2000 then
    local lately = counted * 1000 / (now_ms - counted_from)
    observed = observed < 0 and lately or 0.7 * observed + 0.3 * lately
    counted_from, counted = now_ms, 0
  end
end

-- Answers --------------------------------------------------------------------------------------------------------------

local function admit(user, ticket)
  redis.call('ZADD', passes_key, integer(now_ms + pass_ttl), user)
  passes = passes + 1
  return {ADMITTED, ticket.number, now_ms + pass_ttl, math.min(5000, pass_ttl)}
end

-- Half of the time until the turn can have come at the earliest. Near it, which is a second and a millisecond for each who
-- is let in a second, so that the visits do not grow with the rate: all of that time, unless no pass is free.
-- Before the opening half of the time that the turn will come after it. Whom the jitter could then make late comes once
-- more before the opening. Ranks are told from by that, so it is done in the last minute only, in which nobody can draw
-- another one by leaving a shuffle and joining again.
local function poll_after(ahead)
  if is_paused then return 10000 end
  local turn, near = ahead * 1000 / rate, 1000 + rate
  local until_open = opens - now_ms
  if until_open > LAST_MINUTE then return LONGEST_MS end
  if until_open > 0 then
    local after = math.min(LONGEST_MS, turn / 2)
    return until_open <= math.max(1000, after) and until_open + after or until_open / (1 + JITTER)
  end
  return turn < near and math.max(free() > 0 and near / 4 or near, turn) or math.max(near, math.min(LONGEST_MS, turn / 2))
end

local function answer(i)
  local user, text = users[i], redis.call('HGET', tickets_key, users[i])
  if not text then return {NO_TICKET} end
  local ticket = parse(text)
  local expires = redis.call('ZSCORE', passes_key, user)
  if expires then
    expires = tonumber(expires)
    if expires <= now_ms and not is_paused then return {NO_TICKET} end
    return {ADMITTED, ticket.number, expires, math.max(1000, math.min(5000, expires - now_ms))}
  end

  local is_back = redis.call('ZSCORE', missed_key, user)  -- and the turn is theirs still
  if is_back and tokens > -rate * KEPT_S then
    is_back = nil
    redis.call('ZREM', missed_key, user)
    redis.call('ZADD', called_key, integer(now_ms + SLACK_MS), user)
    tokens, called = tokens - 1, called + 1
  elseif is_back then  -- with so many others that the rate makes them wait, in front of the line
    redis.call('ZADD', missed_key, integer(math.max(tonumber(is_back), now_ms + LONGEST_MS)), user)
  end
  local is_called = redis.call('ZSCORE', called_key, user)
  if is_called and is_open and passes < math.min(max_active, stock) then
    redis.call('ZREM', called_key, user)
    called = called - 1
    return admit(user, ticket)
  end

  local ahead = (is_called or is_back) and 0 or redis.call('ZRANK', lines[ticket.lane], user)
  if not ahead then return {NO_TICKET} end
  local before = ahead + (ticket.lane == 1 and not is_called and not is_back and in_line[0] or 0)
  local poll_ms = poll_after(before)
  if now_ms < ticket.next_ms then
    ticket.hasty = ticket.hasty + 1
    if ticket.hasty > HASTE then return {RATE_LIMITED, ticket.next_ms - now_ms} end
    poll_ms = math.min(poll_ms, ticket.next_ms - now_ms)  -- told a later time, they would be taken for away before it
  else
    ticket.hasty = 0
  end
  if now_ms + poll_ms ~= ticket.next_ms then
    ticket.next_ms, ticket.interval_ms = now_ms + poll_ms, poll_ms
    if is_called then
      redis.call('ZADD', called_key, integer(math.max(tonumber(is_called), expected_by(ticket))), user)
    end
  end
  keep(user, ticket)
  if seed ~= '' and not has_opened then return {WAITING, ticket.number, -1, -1, -1, poll_ms} end
  -- The pace of late; at the worst every pass is kept to its end.
  local pace = observed < 0 and rate or math.max(observed, math.min(rate, max_active * 1000 / pass_ttl))
  -- Without a unit nobody is called, and nobody knows when one comes back.
  local eta_ms = stock < 1 and -1 or math.max(0, opens - now_ms) + math.ceil(before * 1000 / pace)
  return {WAITING, ticket.number, ahead, before, eta_ms, poll_ms}
end

-- Writes ---------------------------------------------------------------------------------------------------------------

local reply = {0, 0, 0, 0}
let_time_pass()
for i = 1, n do
  local act, user, lane = ARGV[4 + 3 * i], users[i], tonumber(ARGV[6 + 3 * i])
  local claimed = act ~= 'leave' and claimed_already(held_by[i])
  if act == 'leave' then
    leave(user)
    left_for[user] = away_for()
    redis.call('SET', KEYS[10 + i], 1, 'PX', left_for[user])
    reply[4 + i] = {LEFT}
  elseif claimed then  -- a place would be for nothing
    leave(user)
    reply[4 + i] = claimed
  elseif is_sold_out and not redis.call('ZSCORE', passes_key, user) then
    reply[4 + i] = {SOLD_OUT}
  elseif act == 'join' and redis.call('HEXISTS', tickets_key, user) == 0 then
    if left_for[user] > 0 then
      reply[4 + i] = {RATE_LIMITED, left_for[user]}
    else
      join(user, lane)
    end
  end
end
move_on()
for i = 1, n do reply[4 + i] = reply[4 + i] or answer(i) end

redis.call('HSET', room_key, 'number', integer(number), 'serving', integer(serving),
  'tokens', string.format('%.3f', tokens), 'moved', integer(moved), 'observed', string.format('%.3f', observed),
  'counted_from', integer(counted_from), 'counted', integer(counted), 'paused', integer(paused), 'opened', has_opened and 1 or 0)
reply[1], reply[2], reply[3], reply[4] = now_ms, serving, in_line[0] + in_line[1], math.max(0, stock - passes - called)
return reply
