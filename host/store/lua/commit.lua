#!lua
-- Writes what workers did with claimed jobs: each commit wholly or not at all.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     checkpoints kept per job, how long they are kept (ms), then for each commit 20 values and its lists:
--            id, token, number of the last step, type, lane, priority, letter of the state to go to (r: goes on;
--            p: pauses if that is still wanted, else goes back to its queue; P: pauses),
--            packed record, when it is due (ms) or '', result (a value, pack.rs, or a reference to an object) or '',
--            selector to go back to or '' (its type),
--            packed checkpoint or '', unique key or '', parent or '', packed failure of an attempt (include.lua) or '',
--            '' or the signal that the step took and when it arrived (µs), '|', and the signal awaited or '>' and how many ends of children
--            the workflow has seen,
--            number of output records, number of children, number of the committed step that it goes on from, '' or a
--            packed map of who is told (r run, w webhooks, tr trace; c context of a Celery task, told of more than its
--            end), the records, and six values per child
--            (create.lua)
--
-- Answers  per commit: 'D' + letter of the state the job is in now, 'A' written before, 'L' claim lost, or the
--          server lost the commit that this one goes on from: then the job goes back to its queue
-- Events   the state of every job written and of every child; wake if a line grew or a job is due before all others
local keep, ttl_ms = tonumber(ARGV[1]), ARGV[2]
local ids, starts, total = {}, {}, 0
do
  local at, last = 3, #ARGV
  while at <= last do
    total = total + 1
    ids[total], starts[total] = ARGV[at], at
    at = at + 20 + ARGV[at + 16] + 6 * ARGV[at + 17]
  end
end
local claims = read_many('HMGET', key('claims'), ids)
local pausing = redis.call('EXISTS', key('ctl')) == 1 and read_many('HMGET', key('ctl'), ids) or {}

local answers, states, leavers, left, kept_claims, results, resumed = {}, {}, {}, {}, {}, {}, {}
local parents, waits, uniques, owners = {}, {}, {}, {}
-- What this call did to a job already: its claim now, or the token under which it left.
local claimed, left_by = {}, {}
local lists = {}

-- Why a commit is refused; nil if it is not.
local function refusal(number, id, token, goes_on, step, base)
  local claim = claimed[id] or claims[number]
  if left_by[id] then return left_by[id] == token and 'A' or 'L' end
  if not claim or claim_token(claim) ~= token then
    local stored = redis.call('HGET', key('st'), id)
    local record = stored and cmsgpack.unpack(string.sub(stored, 2))
    return record and record.claim == token and 'A' or 'L'
  end
  local committed = tonumber(string.match(claim, ':(%-?%d+):'))
  if goes_on and committed >= step then return 'A' end
  if committed < base then
    if committed < 0 then
      local _, record = state_of(id)
      committed = record.step or 0
    end
    if committed < base then
      take_back(id, claim, false, 0)
      left_by[id] = ''
      return 'L'
    end
  end
  return nil, claim
end

-- Paths of the objects that a commit refers to; nil where there are none.
local function objects_of(at)
  local paths
  local function look(value)
    local path = object_of(value)
    if path then
      paths = paths or {}
      paths[#paths + 1] = path
    end
  end
  look(ARGV[at + 9])
  for index = 1, tonumber(ARGV[at + 16]) do look(ARGV[at + 19 + index]) end
  return paths
end

-- Did nobody begin to take them away?
local function all_there(paths)
  for _, path in ipairs(paths) do
    if tonumber(redis.call('ZSCORE', key('waste'), path) or 0) <= 0 then return false end
  end
  return true
end

local function spawn(parent, pending, at)
  local id, lane, type = ARGV[at], ARGV[at + 2], ARGV[at + 3]
  if redis.call('HEXISTS', key('jobs'), id) == 1 then return end
  local extra = ARGV[at + 5] ~= '' and cmsgpack.unpack(ARGV[at + 5]) or nil
  local letter = create_one(id, ARGV[at + 1], lane, type, ARGV[at + 4], extra and due_of(extra), extra)
  redis.call('SADD', key('types'), type)
  redis.call('HSET', key('kids:' .. parent), id, pending)
  redis.call('HINCRBY', key('kids:' .. parent), 'n', 1)
  event(id, letter)
end

for number = 1, total do
  local at, id = starts[number], ids[number]
  local token, type, letter = ARGV[at + 1], ARGV[at + 3], ARGV[at + 6]
  local goes_on, ends = letter == 'r', letter == 'S' or letter == 'F'
  local refused, claim = refusal(number, id, token, goes_on, tonumber(ARGV[at + 2]), tonumber(ARGV[at + 18]))
  local objects = not refused and objects_of(at)
  if objects and not all_there(objects) then
    take_back(id, claim, false, 0)
    left_by[id], refused = '', 'L'
  end
  if refused then
    answers[number] = refused
  else
    if objects then
      write_many('ZREM', key('waste'), objects)
      write_many('SADD', key('obj:' .. id), objects)
    end
    local packed = ARGV[at + 7]
    if pausing[number] and not ends then
      letter, goes_on = 'p', false
      local record = cmsgpack.unpack(packed)
      -- The worker did not know that the job leaves it.
      if ARGV[at + 6] == 'r' then note_stay(record, claim, 'paused') end
      note_past(record, 'pause', who_pauses(pausing[number]))
      record.claim, record.parked = token, (ARGV[at + 6] == 's' or ARGV[at + 6] == 'w') and ARGV[at + 6] or nil
      packed = cmsgpack.pack(record)
    end
    if letter == 'P' then
      letter = 'p'
    elseif letter == 'p' and not pausing[number] then
      -- The operator's wish was taken back meanwhile.
      letter = 'q'
    end
    local outputs, children = tonumber(ARGV[at + 16]), tonumber(ARGV[at + 17])
    states[#states + 1] = id
    if goes_on then
      states[#states + 1] = 'q' .. packed
      claim = token .. ':' .. ARGV[at + 2] .. string.match(claim, '^%x+:%-?%d+(:.*)$')
      kept_claims[#kept_claims + 1] = id
      kept_claims[#kept_claims + 1] = claim
      claimed[id] = claim
    else
      states[#states + 1] = letter .. packed
      leavers[#leavers + 1], left[#left + 1] = id, claim
      left_by[id] = token
      if pausing[number] then resumed[#resumed + 1] = id end
      local own = lists[type]
      if not own then
        own = { removed = list_of(removed, 'x:o:' .. type) }
        lists[type] = own
      end
      count(type, 'r', -1)
      count(type, letter, 1)
      if letter == 'q' then
        local selector = ARGV[at + 10] ~= '' and ARGV[at + 10] or type
        -- It may have been moved while it ran.
        local moved = redis.call('HGET', key('moved'), id)
        local lane, priority = ARGV[at + 4], ARGV[at + 5]
        if moved then lane, priority = string.match(moved, '^(.*)|(%d)$') end
        depth(lane, 1)
        enqueue(lane, selector, priority, id, true)
      else
        own.removed[#own.removed + 1] = id
        local index = own[letter]
        if not index then
          index = list_of(added, 'x:' .. letter .. ':' .. type)
          own[letter] = index
        end
        index[#index + 1] = 0
        index[#index + 1] = id
        if ARGV[at + 8] ~= '' and letter ~= 'p' then due_at(id, tonumber(ARGV[at + 8])) end
        if letter == 'w' then waits[#waits + 1] = { number, id, string.match(ARGV[at + 15], '|(.*)$') or '' } end
      end
    end
    if letter == 'S' and ARGV[at + 9] ~= '' then
      results[#results + 1] = id
      results[#results + 1] = ARGV[at + 9]
    end
    if ARGV[at + 11] ~= '' then
      redis.call('LPUSH', key('cp:' .. id), ARGV[at + 11])
      redis.call('LTRIM', key('cp:' .. id), 0, keep - 1)
      -- What the job is asleep for does not count; while it waits it keeps its place, and a workflow always does.
      if (letter == 'w' and ARGV[at + 8] == '') or is_native(type) then
        redis.call('PERSIST', key('cp:' .. id))
      else
        local due = ARGV[at + 8] ~= '' and letter ~= 'p' and tonumber(ARGV[at + 8]) or NOW
        redis.call('PEXPIRE', key('cp:' .. id), string.format('%.0f', ttl_ms + math.max(0, due - NOW)))
      end
    end
    if outputs > 0 then
      local records = {}
      for index = 1, outputs do records[index] = ARGV[at + 19 + index] end
      write_many('RPUSH', key('out:' .. id), records)
    end
    if children > 0 then
      local pending = is_native(type) and 'w' or ''
      for child = 1, children do spawn(id, pending, at + 20 + outputs + 6 * (child - 1)) end
      if letter == 'p' then spread(id, type, 'pause') end
    end
    local took, arrived = string.match(ARGV[at + 15], '^(%S+) (%d+)|')
    if took then
      -- Another one of that name may have come while the step ran.
      local stored = redis.call('HGET', key('sig:' .. id), took)
      if stored and string.match(stored, '^%d+') == arrived then redis.call('HDEL', key('sig:' .. id), took) end
    end
    local told = ARGV[at + 19] ~= '' and cmsgpack.unpack(ARGV[at + 19]) or {}
    if told.c and letter ~= 'q' then
      -- A job that sleeps after a failure is tried again; others go on.
      local note = (ends or letter == 'p') and letter or ARGV[at + 14] ~= '' and 'r' or 'g'
      tell_celery(id, note, told.c, ARGV[at + 9], packed)
    end
    if ends then
      if told.w then announce(id, type, told.r, letter, told.w, told.tr) end
      if ARGV[at + 12] ~= '' then
        uniques[#uniques + 1] = ARGV[at + 12]
        owners[#owners + 1] = id
      end
      if ARGV[at + 13] ~= '' then
        local outcome = ARGV[at + 9]
        if letter == 'F' then outcome = ARGV[at + 14] ~= '' and cmsgpack.unpack(ARGV[at + 14]).m or '' end
        parents[#parents + 1] = { ARGV[at + 13], id, letter .. outcome }
      end
    end
    if ARGV[at + 14] ~= '' then note_failure(type, id, cmsgpack.unpack(ARGV[at + 14]), letter == 'F') end
    answers[number] = 'D' .. letter
    event(id, letter)
  end
end
write_many('HSET', key('st'), states)
write_many('HSET', key('res'), results)
local kept = {}
for at = 1, #kept_claims, 2 do
  -- A later commit of the same call may have found that the server lost something.
  if not left_by[kept_claims[at]] then
    kept[#kept + 1], kept[#kept + 2] = kept_claims[at], kept_claims[at + 1]
  end
end
write_many('HSET', key('claims'), kept)
write_many('HDEL', key('claims'), leavers)
release_many(leavers, left)
release_uniques(uniques, owners)
write_many('HDEL', key('ctl'), resumed)

-- Only now, because a parent and its child may have been committed by the same call; and after what is gathered,
-- because a job that leaves an index it only just came to needs two writes.
if #parents > 0 or #waits > 0 then flush() end
for _, one in ipairs(parents) do tell_parent(one[1], one[2], one[3]) end
for _, one in ipairs(waits) do
  local number, id, signal = one[1], one[2], one[3]
  local letter, record = state_of(id)
  if letter == 'w' then
    local over
    if string.sub(signal, 1, 1) == '>' then
      over = redis.call('LLEN', key('ended:' .. id)) > tonumber(string.sub(signal, 2))
    else
      over = has_come(id, record)
    end
    if over then
      wake(id, spec_of(id), 'w', record, true)
      letter = 'q'
    end
  end
  answers[number] = 'D' .. letter
end
flush()
return answers
