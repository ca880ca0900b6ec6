-- Put tickets back that Redis has lost, by what the database knows of them, and take out those that it knows to be gone.
-- One that is as new here as there stays as it is.
--
-- KEYS  1 room     hash    sc:{7}:room
--       2 tickets  hash    sc:{7}:tickets
--       3 line_0   zset    sc:{7}:line:0
--       4 line_1   zset    sc:{7}:line:1
--       5 called   zset    sc:{7}:called
--       6 missed   zset    sc:{7}:missed
--       7 passes   zset    sc:{7}:passes
-- ARGV  1 number   the highest that the database knows
--       2 opened   1 where the sale has opened already
--       3 again    1 where the sale was loaded before: numbers may have been given, though nobody knows of any
--       then four a ticket:
--       user       its id
--       lane       -1 for a ticket that is gone
--       number
--       rank
--
-- Returns {restored}.
--
-- Example, the ticket 17 of user 42:
--   EVALSHA … 7 sc:{7}:room sc:{7}:tickets sc:{7}:line:0 sc:{7}:line:1 sc:{7}:called sc:{7}:missed sc:{7}:passes
--             17 1 1   42 1 17 4503599627370513
--   → {1}
--
-- On another run of the server (one life of it, from start to end) numbers may have been given that neither side knows of
-- any more: the next number is far behind them, so that no two people are ever told the same. A server that was put back
-- to an older state may also have tickets that are gone by now, or older ones of people who have joined again since.

local room_key, tickets_key, line_0_key, line_1_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local called_key, missed_key, passes_key = KEYS[5], KEYS[6], KEYS[7]
local lines = {[0] = line_0_key, [1] = line_1_key}
local known, opened, again = tonumber(ARGV[1]), ARGV[2], ARGV[3] == '1'
local GAP = 10000
-- Nobody knows when they were told to come, but whose turn could come in this time was told to come within it: see
-- `poll_after` in visit.lua.
local SHOW_UP_DS = 200

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function integer(number)
  return string.format('%d', number)
end

local room = redis.call('HMGET', room_key, 'number', 'run', 'serving', 'opened')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local number = math.max(tonumber(room[1] or 0), known)
if (again or number > 0) and room[2] ~= run then number = number + GAP end
redis.call('HLEN', tickets_key)
for i = 3, 7 do redis.call('ZCARD', KEYS[i]) end

local function take_out(user)
  redis.call('HDEL', tickets_key, user)
  for _, key in ipairs({lines[0], lines[1], called_key, missed_key, passes_key}) do redis.call('ZREM', key, user) end
end

local restored = 0
for i = 4, #ARGV, 4 do
  local user, lane, of_number, rank = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  local held = redis.call('HGET', tickets_key, user)
  local held_number = held and tonumber(string.match(held, '%d%.(%d+)')) or 0
  local is_gone = lane < 0
  if held and (held_number < of_number or is_gone and held_number == of_number) then
    take_out(user)
    held_number = 0
  end
  if not is_gone and held_number < of_number then
    local next_ds = integer(math.floor(now_ms / 100) + SHOW_UP_DS)
    redis.call('HSET', tickets_key, user, table.concat({lane, integer(of_number), next_ds, 0, 0}, '.'))
    redis.call('ZADD', lines[lane], rank, user)
    restored = restored + 1
  end
end
redis.call('HSET', room_key, 'number', integer(number), 'run', run, 'serving', integer(tonumber(room[3] or 0)),
  'opened', (room[4] == '1' or opened == '1') and 1 or 0)
return {restored}
