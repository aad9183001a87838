#!lua
-- Creates jobs, or names the jobs that stand for them. Nothing of an existing job changes.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     six values per job: id, packed spec, queue, type, priority, and '' or a packed map: d delay ms,
--          b not before (Unix ms), i idempotency key, it how long it is kept (ms), u unique key,
--          c correlation id, g tags
--
-- Answers  the time in ms, then per job: '' created and queued, 's' created and scheduled,
--          'E' + state letter + id of the job that is there already (same id, unique or idempotency key)
-- Events   the state of every job created; wake if a line grew, or a job is due before all others
local total = #ARGV / 6
local answers = { string.format('%.0f', NOW) }
local ids = {}
for number = 1, total do ids[number] = ARGV[number * 6 - 5] end
local known = read_many('HMGET', key('jobs'), ids)

-- Check everything first.
local fresh, uniques, idems, todo, due, extras = {}, {}, {}, {}, {}, {}
local function letter_of(id)
  if fresh[id] then return fresh[id] end
  local stored = redis.call('HGET', key('st'), id)
  if redis.call('HEXISTS', key('claims'), id) == 1 then return 'r' end
  return stored and string.sub(stored, 1, 1) or 'q'
end
local function stands_for(extra)
  if extra.i then
    local id = idems[extra.i] or redis.call('GET', key('idem:' .. extra.i))
    if id and (fresh[id] or redis.call('HEXISTS', key('jobs'), id) == 1) then return id end
  end
  if extra.u then return uniques[extra.u] or redis.call('HGET', key('uniq'), extra.u) end
end
for number = 1, total do
  local id, packed, letter = ids[number], ARGV[number * 6], 'q'
  local other = (known[number] or fresh[id]) and id
  local extra
  if not other and packed ~= '' then
    extra = cmsgpack.unpack(packed)
    other = stands_for(extra)
    if not other then
      due[number] = due_of(extra)
      if due[number] then letter = 's' end
      if extra.u then uniques[extra.u] = id end
      if extra.i then idems[extra.i] = id end
    end
  end
  if other then
    answers[number + 1] = 'E' .. letter_of(other) .. other
  else
    fresh[id] = letter
    extras[number] = extra
    answers[number + 1] = letter == 'q' and '' or letter
    todo[#todo + 1] = number
  end
end

local bodies, types = {}, {}
local queue, type, priority, into, open
for _, number in ipairs(todo) do
  local at, id, extra = number * 6 - 5, ids[number], extras[number]
  bodies[#bodies + 1] = id
  bodies[#bodies + 1] = ARGV[at + 1]
  if queue ~= ARGV[at + 2] or type ~= ARGV[at + 3] or priority ~= ARGV[at + 4] then
    queue, type, priority = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    into = list_of(pushed, line_name(queue, type, priority))
    open = list_of(added, 'x:o:' .. type)
    types[type] = true
  end
  if due[number] then
    park(id, type, due[number])
  else
    into[#into + 1] = id
    open[#open + 1] = 0
    open[#open + 1] = id
    count(type, 'q', 1)
    depth(queue, 1)
  end
  label(id, queue, type, extra)
  if extra then
    if extra.u then redis.call('HSET', key('uniq'), extra.u, id) end
    if extra.i then redis.call('SET', key('idem:' .. extra.i), id, 'PX', extra.it) end
  end
  event(id, fresh[id])
end
write_many('HSET', key('jobs'), bodies)
for name in pairs(types) do redis.call('SADD', key('types'), name) end
flush()
return answers
