#!lua
-- Gives waiting jobs to a worker: highest priority first, lines of the same priority by turns. Before that at
-- most 200 jobs that are due go into their lines.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     worker, token (new for every call), most jobs (1 to 1,000), 1 for lowest priority first, number of
--          queues served (0: all), those queues, then the selectors
--
-- Answers  'GONE' if the worker is not registered or its lease ran out; 'USED' if the token was used or given up
--          before: nothing is claimed then. Else the time in ms, when the next job is due in ms or '', and for
--          each job: id, packed spec, '' or state letter + packed record
-- Events   q for every job that was due, r for every job claimed, wake if a job was due
local worker, token, left, fair = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1'
local first_selector = 6 + tonumber(ARGV[5])
-- Entries of jobs that were paused, cancelled or deleted are skipped; so many in one call.
local SKIPS_MAX = 2000
-- Lines looked at per selector.
local LINES_MAX = 100

local lease = redis.call('ZSCORE', key('workers'), worker)
if not lease or tonumber(lease) < NOW then return { 'GONE' } end
if redis.call('EXISTS', key('token:' .. token)) == 1 then return { 'USED' } end

local only
for at = 6, first_selector - 1 do
  only = only or {}
  only[ARGV[at]] = true
end

local due = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')
if due[1] and tonumber(due[2]) <= NOW then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', NOW, 'LIMIT', 0, 200)) do
    redis.call('ZREM', key('due'), id)
    local spec = spec_of(id)
    if spec then
      local letter, record = state_of(id)
      if letter == 's' or letter == 'w' then wake(id, spec, letter, record, false) end
    end
  end
  flush()
  due = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')
end

-- Lines that may be served: score, selector, queue, priority, band.
local lines, known = {}, {}
local function add(selector, entries)
  for at = 1, #entries, 2 do
    local member, score = entries[at], tonumber(entries[at + 1])
    local queue = string.sub(member, 3)
    if not known[selector .. ' ' .. member] and (not only or only[queue]) then
      known[selector .. ' ' .. member] = true
      local band = math.floor(score / PRIORITY_SPAN)
      lines[#lines + 1] = { score, selector, queue, string.sub(member, 1, 1), band }
    end
  end
end
for at = first_selector, #ARGV do
  local name = key('ready:' .. ARGV[at])
  local entries = redis.call('ZRANGE', name, 0, (only and 10 or 1) * LINES_MAX - 1, 'WITHSCORES')
  add(ARGV[at], entries)
  if fair and #entries >= 2 * LINES_MAX then
    local last = redis.call('ZRANGE', name, -1, -1, 'WITHSCORES')
    local from = math.floor(tonumber(last[2]) / PRIORITY_SPAN) * PRIORITY_SPAN
    add(ARGV[at], redis.call('ZRANGEBYSCORE', name, string.format('%.0f', from), '+inf', 'WITHSCORES', 'LIMIT', 0, LINES_MAX))
  end
end
if fair then
  local lowest = -1
  for _, one in ipairs(lines) do lowest = math.max(lowest, one[5]) end
  for _, one in ipairs(lines) do
    if one[5] == lowest then one[5], one[1] = -1, one[1] - 16 * PRIORITY_SPAN end
  end
end
table.sort(lines, function(left_one, right_one) return left_one[1] < right_one[1] end)

local answers, size = { string.format('%.0f', NOW), due[2] or '' }, 2
local claims, held, mine, skips = {}, 0, {}, SKIPS_MAX
local any_moved = redis.call('EXISTS', key('moved')) == 1
local value = token .. ':-1:' .. worker .. ':' .. string.format('%.0f', NOW)

-- Takes up to `most` jobs from a line. Returns how many, and whether it is empty now.
local function take(one, most)
  local name = key('line:' .. line_name(one[3], one[2], one[4]))
  local got = 0
  while got < most and skips > 0 do
    local wanted = most - got
    local ids = redis.call('RPOP', name, wanted)
    if not ids then return got, true end
    local specs = read_many('HMGET', key('jobs'), ids)
    local states = read_many('HMGET', key('st'), ids)
    local taken = read_many('HMGET', key('claims'), ids)
    -- A job that was moved stands in its new line; entries that it left in others do not count.
    local moved, here = any_moved and read_many('HMGET', key('moved'), ids) or {}, one[3] .. '|' .. one[4]
    for at = 1, #ids do
      local id, stored = ids[at], states[at]
      local stands = not moved[at] or moved[at] == here
      if specs[at] and stands and not taken[at] and not mine[id] and (not stored or string.byte(stored) == 113) then
        mine[id] = true
        got = got + 1
        answers[size + 1], answers[size + 2], answers[size + 3] = id, specs[at], stored or ''
        size = size + 3
        claims[held + 1], claims[held + 2] = id, value
        held = held + 2
        event(id, 'r')
      else
        skips = skips - 1
      end
    end
    if #ids < wanted then return got, true end
  end
  return got, false
end

local turn = NOW_US - EPOCH_US
local from = 1
while from <= #lines and left > 0 and skips > 0 do
  local to = from
  while lines[to + 1] and lines[to + 1][5] == lines[from][5] do to = to + 1 end
  local live = {}
  for at = from, to do live[#live + 1] = lines[at] end
  -- Every line of this priority gets its share; what some do not use the others get.
  while #live > 0 and left > 0 and skips > 0 do
    local rest = {}
    for at, one in ipairs(live) do
      if left == 0 then break end
      local got, empty = take(one, math.ceil(left / (#live - at + 1)))
      left = left - got
      one.got = (one.got or 0) + got
      if empty then
        redis.call('ZREM', key('ready:' .. one[2]), one[4] .. '|' .. one[3])
        redis.call('SREM', key('lines:' .. one[3]), one[2] .. '|' .. one[4])
      else
        rest[#rest + 1] = one
      end
    end
    live = rest
  end
  for at = from, to do
    local one = lines[at]
    if one.got and one.got > 0 then
      local type = string.match(one[2], '^[^@]*')
      count(type, 'q', -one.got)
      count(type, 'r', one.got)
      depth(one[3], -one.got)
      if to > from then
        turn = turn + 1
        local score = string.format('%.0f', (9 - one[4]) * PRIORITY_SPAN + turn)
        redis.call('ZADD', key('ready:' .. one[2]), 'XX', score, one[4] .. '|' .. one[3])
      end
    end
  end
  from = to + 1
end
if held > 0 then
  write_many('HSET', key('claims'), claims)
  redis.call('SET', key('token:' .. token), 1, 'EX', 3600)
end
flush()
return answers
