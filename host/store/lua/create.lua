#!lua
-- Creates jobs, or names the jobs that stand for them. Nothing of an existing job changes, but where a new one
-- replaces its input, or takes its place under a limit.
--
-- KEYS[1]  head of the partition's keys
-- ARGV[1]  channel on which workers listen
-- ARGV     six values per job: id, packed spec, lane, type, priority, and '' or a packed map: d delay ms,
--          b not before (Unix ms), i idempotency key, it how long it is kept (ms), u unique key, ut it holds for so
--          many ms, ur the newest input replaces that of a job which waits, c correlation id, g tags
--
-- Answers  the time in ms, then per job: '' created and queued, 's' created and scheduled,
--          'E' + state letter + id of the job that is there already (same id, unique or idempotency key),
--          'U' + state letter + id of the job that waits and has the new input now, 'L' a limit is reached
-- Events   the state of every job created, changed or cancelled; wake if a line grew, or a job is due before all
--          others; "worker drop id token" on the channel where a worker holds a job that was cancelled
local channel = ARGV[1]
local total = (#ARGV - 1) / 6
local answers = { string.format('%.0f', NOW) }
local ids = {}
for number = 1, total do ids[number] = ARGV[number * 6 - 4] end
local known = read_many('HMGET', key('jobs'), ids)

-- Check everything first.
local fresh, uniques, idems, todo, due, extras, places = {}, {}, {}, {}, {}, {}, {}
local function letter_of(id)
  if fresh[id] then return fresh[id] end
  local stored = redis.call('HGET', key('st'), id)
  if redis.call('HEXISTS', key('claims'), id) == 1 then return 'r' end
  return stored and string.sub(stored, 1, 1) or 'q'
end
local function is_there(id) return id and (fresh[id] or redis.call('HEXISTS', key('jobs'), id) == 1) and id end
local function stands_for(extra)
  if extra.i then
    local id = is_there(idems[extra.i] or redis.call('GET', key('idem:' .. extra.i)))
    if id then return id end
  end
  if not extra.u then return nil end
  if extra.ut then return is_there(uniques[extra.u] or redis.call('GET', key('uniqt:' .. extra.u))), true end
  return uniques[extra.u] or redis.call('HGET', key('uniq'), extra.u), true
end

-- The rules of a queue that does not just let jobs wait when its limit is reached.
local strict = {}
local function strict_rules(lane)
  if not exists('limits') then return nil end
  local queue = queue_of(lane)
  if strict[queue] == nil then
    local packed = redis.call('HGET', key('limits'), queue)
    local rules = packed and cmsgpack.unpack(packed)
    strict[queue] = rules and rules.s and rules or false
  end
  local rules = strict[queue]
  if not rules then return nil end
  if lane ~= queue and rules.kc then return { s = rules.s, scope = lane, most = rules.kc } end
  if rules.c then return { s = rules.s, scope = queue, most = rules.c } end
end
local planned = {}
local function occupied(scope)
  local waiting = redis.call('HGET', key(string.find(scope, '/', 1, true) and 'lanes' or 'depth'), scope)
  return (redis.call('HGET', key('busy'), scope) or 0) + (waiting or 0) + (planned[scope] or 0)
end

local replaced, rules_of = {}, {}
for number = 1, total do
  local at = number * 6 - 4
  local id, packed, letter = ids[number], ARGV[at + 5], 'q'
  local other = (known[number] or fresh[id]) and id
  local extra, by_key
  if packed ~= '' then extra = cmsgpack.unpack(packed) end
  if not other and extra then
    other, by_key = stands_for(extra)
    if not other then
      due[number] = due_of(extra)
      if due[number] then letter = 's' end
    end
  end
  local rules = not other and letter == 'q' and strict_rules(ARGV[at + 2])
  if other then
    local now = letter_of(other)
    local takes_input = extra and extra.ur and by_key and (now == 'q' or now == 's')
    -- A job that ran keeps what it ran with.
    if takes_input and (select(2, state_of(other)).step or 0) == 0 then
      answers[number + 1] = 'U' .. now .. other
      replaced[#replaced + 1] = { other, number, extra }
    else
      answers[number + 1] = 'E' .. now .. other
    end
  elseif rules and rules.s == 'reject' and occupied(rules.scope) >= rules.most then
    answers[number + 1] = 'L'
  else
    if rules then
      planned[rules.scope] = (planned[rules.scope] or 0) + 1
      rules_of[number] = rules
    end
    if extra and extra.u then uniques[extra.u] = id end
    if extra and extra.i then idems[extra.i] = id end
    fresh[id] = letter
    places[id] = number
    extras[number] = extra
    answers[number + 1] = letter == 'q' and '' or letter
    todo[#todo + 1] = number
  end
end

-- The newest input takes the place of the one before.
for _, one in ipairs(replaced) do
  local id, number, extra = one[1], one[2], one[3]
  local place = places[id]
  local spec = cmsgpack.unpack(place and ARGV[place * 6 - 3] or redis.call('HGET', key('jobs'), id))
  local newest = cmsgpack.unpack(ARGV[number * 6 - 3])
  spec.i, spec.m = newest.i, newest.m
  local packed, again = cmsgpack.pack(spec), due_of(extra)
  if place then
    ARGV[place * 6 - 3] = packed
    if due[place] and again then due[place] = again end
  else
    redis.call('HSET', key('jobs'), id, packed)
    local letter, record = state_of(id)
    if letter == 's' and again then
      record.not_before_ms = again
      put_state(id, 's', record)
      due_at(id, again)
    end
    event(id, letter)
  end
end

-- Where a limit is reached, a job of the same scope makes room: the oldest that runs, or the newest that waits.
local function make_room(rules)
  if occupied(rules.scope) < rules.most then return end
  local id = rules.s == 'cancel_running' and redis.call('ZRANGE', key('runners:' .. rules.scope), 0, 0)[1]
  if not id then
    id = redis.call('HGET', key('newest'), rules.scope)
    if not id or letter_of(id) ~= 'q' then return end
  end
  local spec = spec_of(id)
  local letter, record, claim = state_of(id)
  if not spec or letter == 'S' or letter == 'F' or letter == 'C' then return end
  record.error = { kind = 'replaced', message = 'a newer job took its place under the limit of ' .. rules.scope }
  cancel_one(id, spec, letter, record, claim, channel)
  flush()
end

local bodies, types = {}, {}
local lane, type, priority, into, open
for _, number in ipairs(todo) do
  local at, id, extra, rules = number * 6 - 4, ids[number], extras[number], rules_of[number]
  if rules and rules.s ~= 'reject' then
    planned = {}
    make_room(rules)
    redis.call('HSET', key('newest'), rules.scope, id)
    -- The next one looks at this one.
    fresh[id] = nil
    create_one(id, ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], nil, extra)
    types[ARGV[at + 3]] = true
    event(id, 'q')
    flush()
    lane = nil
  else
    bodies[#bodies + 1] = id
    bodies[#bodies + 1] = ARGV[at + 1]
    if lane ~= ARGV[at + 2] or type ~= ARGV[at + 3] or priority ~= ARGV[at + 4] then
      lane, type, priority = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
      into = list_of(pushed, line_name(lane, type, priority))
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
      depth(lane, 1)
    end
    label(id, queue_of(lane), type, extra)
    event(id, fresh[id])
  end
  if extra then
    if extra.i then redis.call('SET', key('idem:' .. extra.i), id, 'PX', extra.it) end
    if extra.u and extra.ut then redis.call('SET', key('uniqt:' .. extra.u), id, 'PX', extra.ut) end
  end
end
local holders = {}
for _, number in ipairs(todo) do
  local extra = extras[number]
  if extra and extra.u and not extra.ut then
    holders[#holders + 1] = extra.u
    holders[#holders + 1] = ids[number]
  end
end
write_many('HSET', key('uniq'), holders)
write_many('HSET', key('jobs'), bodies)
for name in pairs(types) do redis.call('SADD', key('types'), name) end
flush()
return answers
