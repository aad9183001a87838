#!lua
-- Compares indexes and counts with the jobs, and mends them; a portion per call.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     'jobs', '' and a cursor: jobs that stand in no index, or in a wrong one;
--          'index', name of an index and a cursor: entries of jobs that do not exist;
--          'counts', job type and '0': its counts;
--          'depth', queue and '0': how many jobs wait in it and in its lanes, where these are at most 1,000 in 200 lines;
--          'busy', '' and '0': what limits count of running jobs, where at most 1,000 run under 1,000 limits.
--          Cursors begin with '0'
--
-- Answers  the next cursor, '0' at the end; how much was mended
local verb, name, cursor = ARGV[1], ARGV[2], ARGV[3]
local mended = 0

if verb == 'jobs' then
  local page = redis.call('HSCAN', key('jobs'), cursor, 'COUNT', 20)
  for at = 1, #page[2], 2 do
    local id = page[2][at]
    local spec = spec_of(id)
    local letter, record = state_of(id)
    local names = { 'x:' .. class(letter) .. ':' .. spec.t }
    if spec.q ~= spec.t then names[#names + 1] = 'xq:' .. spec.q end
    if spec.c then names[#names + 1] = 'corr:' .. spec.c end
    for _, tag in ipairs(spec.g or {}) do names[#names + 1] = 'tag:' .. tag end
    for _, index in ipairs(names) do mended = mended + redis.call('ZADD', key(index), 0, id) end
    for other in string.gmatch('oswpSFC', '.') do
      if other ~= class(letter) then mended = mended + redis.call('ZREM', key('x:' .. other .. ':' .. spec.t), id) end
    end
    local is_due = letter == 's' or letter == 'w' and record.not_before_ms
    if is_due and not redis.call('ZSCORE', key('due'), id) then
      due_at(id, record.not_before_ms or NOW)
      mended = mended + 1
    end
    redis.call('SADD', key('types'), spec.t)
  end
  flush()
  return { page[1], mended }
end

if verb == 'index' then
  local page = redis.call('ZSCAN', key(name), cursor, 'COUNT', 100)
  for at = 1, #page[2], 2 do
    if redis.call('HEXISTS', key('jobs'), page[2][at]) == 0 then
      mended = mended + redis.call('ZREM', key(name), page[2][at])
    end
  end
  return { page[1], mended }
end

if verb == 'depth' then
  local LINES_MAX, ENTRIES_MAX = 200, 1000
  if redis.call('SCARD', key('lines:' .. name)) > LINES_MAX then return { '0', 0 } end
  local ids, seen = {}, {}
  for _, line in ipairs(redis.call('SMEMBERS', key('lines:' .. name))) do
    for _, id in ipairs(redis.call('LRANGE', key('line:' .. line), 0, ENTRIES_MAX)) do
      if not seen[id] then ids[#ids + 1] = id end
      seen[id] = true
    end
    if #ids > ENTRIES_MAX then return { '0', 0 } end
  end
  -- Entries of jobs that were paused, moved or deleted stay in their line.
  local depth, lanes = 0, {}
  for _, id in ipairs(ids) do
    local spec = spec_of(id)
    if spec and spec.q == name and letter_now(id) == 'q' then
      depth = depth + 1
      if spec.k then lanes[spec.lane] = (lanes[spec.lane] or 0) + 1 end
    end
  end
  local function right(hash, field, number)
    if tonumber(redis.call('HGET', key(hash), field) or 0) ~= number then
      redis.call('HSET', key(hash), field, number)
      mended = mended + 1
    end
  end
  right('depth', name, depth)
  for lane, number in pairs(lanes) do right('lanes', lane, number) end
  return { '0', mended }
end

if verb == 'busy' then
  local MOST = 1000
  if redis.call('HLEN', key('claims')) > MOST or redis.call('HLEN', key('busy')) > MOST then return { '0', 0 } end
  local known, runs = redis.call('HGETALL', key('busy')), {}
  for _, claim in ipairs(redis.call('HVALS', key('claims'))) do
    local _, weight, lane = claim_place(claim)
    if lane then weigh(runs, lane, weight) end
  end
  for at = 1, #known, 2 do
    local scope, number = known[at], runs[known[at]] or 0
    if tonumber(known[at + 1]) ~= number then
      freed[scope] = known[at + 1] - number
      mended = mended + 1
    end
    runs[scope] = nil
  end
  for scope, number in pairs(runs) do
    freed[scope] = -number
    mended = mended + 1
  end
  flush()
  return { '0', mended }
end

-- What an index holds is known at once. Queued and running jobs share one: the claims are looked at where they are few.
local function correct(letter, number)
  local field = name .. '|' .. letter
  if tonumber(redis.call('HGET', key('counts'), field) or 0) ~= number then
    redis.call('HSET', key('counts'), field, number)
    mended = mended + 1
  end
end
for letter in string.gmatch('swpSFC', '.') do correct(letter, redis.call('ZCARD', key('x:' .. letter .. ':' .. name))) end
local running = tonumber(redis.call('HGET', key('counts'), name .. '|r') or 0)
if redis.call('HLEN', key('claims')) <= 200 then
  running = 0
  for _, id in ipairs(redis.call('HKEYS', key('claims'))) do
    local spec = spec_of(id)
    if spec and spec.t == name then running = running + 1 end
  end
  correct('r', running)
end
correct('q', math.max(0, redis.call('ZCARD', key('x:o:' .. name)) - running))
return { '0', mended }
