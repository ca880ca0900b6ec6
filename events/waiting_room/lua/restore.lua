-- Put tickets back that Redis has lost, by what the database knows of them. Those that are there stay as they are.
--
-- KEYS  1 room     hash    sc:{7}:room
--       2 tickets  hash    sc:{7}:tickets
--       3 line 0   zset    sc:{7}:line:0
--       4 line 1   zset    sc:{7}:line:1
-- ARGV  1 number   the highest that the database knows
--       2 opened   1 where the sale has opened already
--       then four a ticket:
--       user       its id
--       lane
--       number
--       rank
--
-- Returns {restored}.
--
-- Example, the ticket 17 of user 42:
--   EVALSHA … 4 sc:{7}:room …   17 1   42 1 17 4503599627370513
--   → {1}
--
-- On another run of the server (one life of it, from start to end) numbers may have been given that neither side knows of
-- any more: the next number is far behind them, so that no two people are ever told the same.

local room_key, tickets_key, lines = KEYS[1], KEYS[2], {[0] = KEYS[3], [1] = KEYS[4]}
local known, opened = tonumber(ARGV[1]), ARGV[2]
local GAP = 10000

local time = redis.call('TIME')
local now_ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function integer(number)
  return string.format('%.0f', number)
end

local room = redis.call('HMGET', room_key, 'number', 'run', 'serving', 'opened')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local number = math.max(tonumber(room[1] or 0), known)
if number > 0 and room[2] ~= run then number = number + GAP end
redis.call('HLEN', tickets_key)
redis.call('ZCARD', lines[0])
redis.call('ZCARD', lines[1])

local restored = 0
for i = 3, #ARGV, 4 do
  local user, lane, of_number, rank = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  -- Nobody has told them when to come: they have a minute to show that they are there.
  local ticket = table.concat({lane, of_number, integer(math.floor(now_ms / 100) + 600), 0, 0}, '.')
  if redis.call('HSETNX', tickets_key, user, ticket) == 1 then
    redis.call('ZADD', lines[lane], rank, user)
    restored = restored + 1
  end
end
redis.call('HSET', room_key, 'number', integer(number), 'run', run,
  'serving', integer(math.max(tonumber(room[3] or 0), 0)), 'opened', (room[4] == '1' or opened == '1') and 1 or 0)
return {restored}
