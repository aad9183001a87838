-- Shared by every script of the store; placed behind the first line.
-- KEYS[1] is the head of every key of one partition, such as "{wm0}:".

local HEAD = KEYS[1]
-- Variadic commands are cut into pieces: unpack fails at about 8,000 values.
local PIECE = 1000
-- Lines are served by (9 - priority) * 2^49 + the microsecond of their last turn, counted from 2026:
-- below 2^53, so that it is exact as a score.
local PRIORITY_SPAN = 562949953421312
local EPOCH_US = 1767225600000000

local function key(name) return HEAD .. name end

local TIME = redis.call('TIME')
local NOW_US = TIME[1] * 1000000 + TIME[2]
local NOW = math.floor(NOW_US / 1000)

local function write_many(command, name, values)
  for from = 1, #values, PIECE do
    redis.call(command, name, unpack(values, from, math.min(from + PIECE - 1, #values)))
  end
end

local function read_many(command, name, fields)
  if #fields <= PIECE then
    if #fields == 0 then return {} end
    return redis.call(command, name, unpack(fields))
  end
  local all = {}
  for from = 1, #fields, PIECE do
    local part = redis.call(command, name, unpack(fields, from, math.min(from + PIECE - 1, #fields)))
    for at = 1, #part do all[#all + 1] = part[at] end
  end
  return all
end

-- What a script gathers to write at its end, many at a time.
local added, removed, counts, depths, pushed, fronts, events = {}, {}, {}, {}, {}, {}, {}
-- What running jobs gave back of the limits that counted them: scope -> weight.
local freed = {}
-- The earliest time (ms) that this call noted in `due`.
local due_first

local function gather(map, name, value)
  local list = map[name]
  if not list then list = {}; map[name] = list end
  list[#list + 1] = value
end

-- The list gathered for a name, to be filled by the caller.
local function list_of(map, name)
  local list = map[name]
  if not list then list = {}; map[name] = list end
  return list
end

local function class(letter)
  if letter == 'q' or letter == 'r' then return 'o' end
  return letter
end

local function index_add(letter, type, id)
  local name = 'x:' .. class(letter) .. ':' .. type
  local list = added[name]
  if not list then list = {}; added[name] = list end
  local n = #list
  list[n + 1] = 0
  list[n + 2] = id
end

local function index_remove(letter, type, id) gather(removed, 'x:' .. class(letter) .. ':' .. type, id) end

local function count(type, letter, by)
  local field = type .. '|' .. letter
  counts[field] = (counts[field] or 0) + by
end

-- A lane is a queue, or "queue/key" for the jobs of one flow key of it: lanes of a queue are served by turns.
local queues = {}
local function queue_of(lane)
  local queue = queues[lane]
  if not queue then
    queue = string.match(lane, '^[^/]*')
    queues[lane] = queue
  end
  return queue
end

local function depth(lane, by) depths[lane] = (depths[lane] or 0) + by end

-- Moves a job between states in index and counts.
local function move(type, lane, id, before, after)
  if before == after then return end
  count(type, before, -1)
  count(type, after, 1)
  if class(before) ~= class(after) then
    index_remove(before, type, id)
    index_add(after, type, id)
  end
  if before == 'q' then depth(lane, -1) end
  if after == 'q' then depth(lane, 1) end
end

local function line_name(lane, selector, priority) return lane .. '|' .. selector .. '|' .. priority end

local function enqueue(lane, selector, priority, id, front)
  local name = line_name(lane, selector, priority)
  gather(front and fronts or pushed, name, id)
end

local function event(id, letter) events[#events + 1] = id .. ':' .. letter end

-- Notes when a parked job is due.
local function due_at(id, due)
  redis.call('ZADD', key('due'), string.format('%.0f', due), id)
  if not due_first or due < due_first then due_first = due end
end

local function split_line(name)
  return string.match(name, '^([^|]*)|([^|]*)|(%d)$')
end

-- Does anything use the key in this call? Asked once.
local known_keys = {}
local function exists(name)
  if known_keys[name] == nil then known_keys[name] = redis.call('EXISTS', key(name)) == 1 end
  return known_keys[name]
end

-- Is the queue paused? Asked once.
local known_paused = {}
local function is_paused(queue)
  if known_paused[queue] == nil then
    known_paused[queue] = redis.call('SISMEMBER', key('paused'), queue) == 1
  end
  return known_paused[queue]
end

-- Answers whether the line is served: nobody need be woken for a queue that is paused, or for a line that waits
-- behind a limit. Turn: when it was served last, now if nothing is said.
local function open_line(lane, selector, priority, turn)
  local queue, name = queue_of(lane), line_name(lane, selector, priority)
  redis.call('SADD', key('lines:' .. queue), name)
  if is_paused(queue) then return false end
  if exists('blocked') and redis.call('HEXISTS', key('blocked'), name) == 1 then return false end
  local score = (9 - priority) * PRIORITY_SPAN + (turn or NOW_US - EPOCH_US)
  redis.call('ZADD', key('ready:' .. selector), 'NX', string.format('%.0f', score), priority .. '|' .. lane)
  return true
end

-- Lines that wait behind the same limit come back by this: a line of a priority lower by one waits ten seconds more.
local AGE_US = 10000000

-- Puts a line behind a limit that it met, where it keeps its turn. Scope: what the limit holds for, a queue or a
-- lane.
local function block_line(lane, selector, priority, turn, scope)
  local name = line_name(lane, selector, priority)
  redis.call('ZREM', key('ready:' .. selector), priority .. '|' .. lane)
  redis.call('HSET', key('blocked'), name, scope)
  redis.call('ZADD', key('blocked:' .. scope), string.format('%.0f', (9 - priority) * AGE_US + turn), name)
  known_keys.blocked = true
end

-- Notes when a scope has room again (ms), if that is sooner than what is known.
local function opens_at(scope, at)
  redis.call('ZADD', key('opens'), 'LT', string.format('%.0f', at), scope)
end

-- Serves some of the lines behind a limit again. Answers whether anybody need be woken.
local function open_blocked(scope, most)
  local woken = false
  local lines = redis.call('ZPOPMIN', key('blocked:' .. scope), most)
  for at = 1, #lines, 2 do
    redis.call('HDEL', key('blocked'), lines[at])
    local lane, selector, priority = split_line(lines[at])
    woken = open_line(lane, selector, priority, lines[at + 1] - (9 - priority) * AGE_US) or woken
  end
  -- Should nobody serve those, the others have their turn.
  if #lines > 0 and redis.call('EXISTS', key('blocked:' .. scope)) == 1 then opens_at(scope, NOW + 1000) end
  return woken
end

-- A claim is "<token, 32 characters>:<committed step or -1>:<worker>:<claimed at, ms>"; of a job that limits count,
-- "|<weight>|<lane>" follows, with a star before the weight where the oldest may be cancelled for a newer one.
local function claim_token(claim) return string.sub(claim, 1, 32) end
local function claim_worker(claim) return string.match(claim, '^%x+:%-?%d+:([^|]*):%d+') end
local function claim_place(claim) return string.match(claim, '|(%*?)(%d+)|(.*)$') end

-- Adds a weight to those of a lane's queue and of its key.
local function weigh(sums, lane, weight)
  local queue = queue_of(lane)
  sums[queue] = (sums[queue] or 0) + weight
  if lane ~= queue then sums[lane] = (sums[lane] or 0) + weight end
end

-- Claims end: the limits that counted their jobs are told.
local function release_many(ids, claims)
  -- Those of a line that were claimed together are alike, but for their weight.
  local alike = {}
  for _, claim in ipairs(claims) do alike[claim] = (alike[claim] or 0) + 1 end
  local starred
  for claim, jobs in pairs(alike) do
    local star, weight, lane = claim_place(claim)
    if lane then
      weigh(freed, lane, weight * jobs)
      starred = starred or star ~= ''
    end
  end
  if not starred then return end
  for at, claim in ipairs(claims) do
    local star, _, lane = claim_place(claim)
    if star == '*' then
      redis.call('ZREM', key('runners:' .. queue_of(lane)), ids[at])
      if lane ~= queue_of(lane) then redis.call('ZREM', key('runners:' .. lane), ids[at]) end
    end
  end
end

-- Entries that the stream of changes keeps (changes.rs), and jobs that one of them tells of: so it has a bound in bytes.
local CHANGES_KEPT, CHANGE_JOBS = 4000, 100

-- Tells of the jobs that changed, and keeps that for those who come later.
local function tell_changes()
  local all = table.concat(events, ' ')
  redis.call('PUBLISH', key('ev'), all)
  for from = 1, #events, CHANGE_JOBS do
    local part = #events <= CHANGE_JOBS and all
      or table.concat(events, ' ', from, math.min(from + CHANGE_JOBS - 1, #events))
    redis.call('XADD', key('changes'), 'MAXLEN', '~', CHANGES_KEPT, '*', 'j', part)
  end
end

-- What becomes of a job that came from Celery is noted in the outbox, in the call that makes it so; a host tells the
-- callers (celery_settle.lua). Letters are those of store/src/celery.rs.
local celery_told = false
local function tell_celery(id, letter, context, body, record)
  redis.call('XADD', key('celery'), '*', 'j', id, 'l', letter, 'c', context, 'b', body, 'm', record)
  celery_told = true
end

local function flush()
  for name, list in pairs(removed) do write_many('ZREM', key(name), list) end
  for name, list in pairs(added) do write_many('ZADD', key(name), list) end
  for field, by in pairs(counts) do
    if by ~= 0 then redis.call('HINCRBY', key('counts'), field, by) end
  end
  local by_queue = {}
  for lane, by in pairs(depths) do
    if by ~= 0 then
      local queue = queue_of(lane)
      by_queue[queue] = (by_queue[queue] or 0) + by
      if lane ~= queue and redis.call('HINCRBY', key('lanes'), lane, by) <= 0 then
        redis.call('HDEL', key('lanes'), lane)
      end
    end
  end
  for queue, by in pairs(by_queue) do redis.call('HINCRBY', key('depth'), queue, by) end
  local woken, waits = false, next(freed) and exists('blocked')
  for scope, weight in pairs(freed) do
    if redis.call('HINCRBY', key('busy'), scope, -weight) <= 0 then redis.call('HDEL', key('busy'), scope) end
    if waits and weight > 0 then woken = open_blocked(scope, math.min(weight, 50)) or woken end
  end
  for name, list in pairs(pushed) do
    if #list > 0 then
      write_many('LPUSH', key('line:' .. name), list)
      woken = open_line(split_line(name)) or woken
    end
  end
  for name, list in pairs(fronts) do
    if #list > 0 then
      write_many('RPUSH', key('line:' .. name), list)
      woken = open_line(split_line(name)) or woken
    end
  end
  -- A worker that waits for the time known before would be late.
  if due_first and not woken then
    local first = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')
    woken = first[2] and tonumber(first[2]) >= due_first
  end
  if woken then redis.call('PUBLISH', key('wake'), '') end
  if #events > 0 then tell_changes() end
  if celery_told then redis.call('PUBLISH', key('celery'), '') end
  celery_told = false
  -- A script may go on after this.
  added, removed, counts, depths, pushed, fronts, events, freed = {}, {}, {}, {}, {}, {}, {}, {}
  due_first = nil
end

local function spec_of(id)
  local packed = redis.call('HGET', key('jobs'), id)
  if not packed then return nil end
  local spec = cmsgpack.unpack(packed)
  if not spec.q or spec.q == '' then spec.q = spec.t end
  spec.p = spec.p or 0
  spec.lane = spec.k and spec.q .. '/' .. spec.k or spec.q
  return spec
end

-- State letter of a job that exists, without its record.
local function letter_now(id)
  if redis.call('HEXISTS', key('claims'), id) == 1 then return 'r' end
  local stored = redis.call('HGET', key('st'), id)
  return stored and string.sub(stored, 1, 1) or 'q'
end

-- State letter and record of a job that exists. A claimed job is running whatever its record says.
local function state_of(id)
  local stored = redis.call('HGET', key('st'), id)
  local claim = redis.call('HGET', key('claims'), id)
  local letter, record = 'q', { run = 1 }
  if stored then
    letter = string.sub(stored, 1, 1)
    record = cmsgpack.unpack(string.sub(stored, 2))
  end
  if claim then letter = 'r' end
  return letter, record, claim
end

local function put_state(id, letter, record)
  redis.call('HSET', key('st'), id, letter .. cmsgpack.pack(record))
end

-- Moves a job that is parked or ended into its line.
local function wake(id, spec, before, record, front)
  redis.call('ZREM', key('due'), id)
  record.not_before_ms, record.signal, record.parked = nil, nil, nil
  put_state(id, 'q', record)
  move(spec.t, spec.lane, id, before, 'q')
  enqueue(spec.lane, spec.t, spec.p, id, front)
  event(id, 'q')
end

-- Has come what a waiting job waits for: a signal, or the ends of all its children? Notes the signal.
local function has_come(id, record)
  if record.signal then
    if redis.call('HEXISTS', key('sig:' .. id), record.signal) == 0 then return false end
    record.heard = record.signal
    return true
  end
  return tonumber(redis.call('HGET', key('kids:' .. id), 'n') or 0) <= 0
end

-- What was in a job's life, as its record keeps it (record.rs): a when, w what, r run, f since when, b by whom, v plugin
-- version. As many as there.
local PAST_MAX = 20
local function note_past(record, what, by, since)
  local past = record.past or {}
  past[#past + 1] = { a = NOW, w = what, r = record.run or 1, f = since, b = by, v = since and record.version or nil }
  while #past > PAST_MAX do table.remove(past, 1) end
  record.past = past
end

-- The stay of a job on the worker that claimed it is over.
local function note_stay(record, claim, what)
  local worker, since = string.match(claim, '^%x+:%-?%d+:([^|]*):(%d+)')
  note_past(record, what, worker, tonumber(since))
end

-- Who asked for the pause that waits for the end of a step, where that is known: the control is "pause", or "pause WHO".
local function who_pauses(control) return string.match(control, '^pause (.+)$') end

-- Jobs let go of their unique keys, where they have them.
local function release_uniques(uniques, ids)
  local own = {}
  for at, holder in ipairs(read_many('HMGET', key('uniq'), uniques)) do
    if holder == ids[at] then own[#own + 1] = uniques[at] end
  end
  write_many('HDEL', key('uniq'), own)
end

local function release_unique(unique, id)
  if unique then release_uniques({ unique }, { id }) end
end

-- The path of an object, where a value refers to one (objects.rs).
local function object_of(value)
  if string.byte(value) == 1 then return string.match(value, '"k":"([^"]*)"') end
end

-- Objects of a job become waste; those in `kept` stay, where it is given.
local function discard(id, kept)
  local name = key('obj:' .. id)
  for _, path in ipairs(redis.call('SMEMBERS', name)) do
    if not kept or not kept[path] then
      redis.call('ZADD', key('waste'), string.format('%.0f', NOW), path)
      redis.call('SREM', name, path)
    end
  end
end

-- Job types that workers run by themselves.
local function is_native(type) return string.sub(type, 1, 8) == 'waymark.' end

-- Does the parent of a job keep it? The nodes of a workflow, and their results, live as long as it does: it may still
-- ask for them.
local keepers = {}
local function is_node(parent)
  if not parent then return false end
  if keepers[parent] == nil then
    local spec = spec_of(parent)
    keepers[parent] = spec ~= nil and is_native(spec.t)
  end
  return keepers[parent]
end

-- What is asked of a parent shall reach its children that have not ended; whoever asks, or else any host, sees to it.
-- A pause and its end reach those of workflows only.
local function spread(id, type, verb)
  if verb ~= 'cancel' and not is_native(type) then return end
  if tonumber(redis.call('HGET', key('kids:' .. id), 'n') or 0) > 0 then redis.call('HSET', key('spread'), id, verb) end
end

-- A child ended: its parent is told, and wakes if it was the last one awaited, or is a workflow.
local function tell_parent(parent, id, outcome)
  if not parent then return end
  local kids = key('kids:' .. parent)
  local known = redis.call('HGET', kids, id)
  if known ~= '' and known ~= 'w' then return end
  if known == 'w' then
    -- A workflow hears of every end, and asks for results when it needs them.
    local stored = redis.call('HGET', key('st'), id)
    outcome = stored and string.sub(stored, 1, 1) or 'C'
    redis.call('RPUSH', key('ended:' .. parent), outcome .. id)
  end
  redis.call('HSET', kids, id, outcome)
  if redis.call('HINCRBY', kids, 'n', -1) > 0 and known == '' then return end
  local letter, record = state_of(parent)
  if letter ~= 'w' or record.signal then return end
  local spec = spec_of(parent)
  if not spec then return end
  wake(parent, spec, 'w', record, true)
end

-- Groups of failures kept per job type, sample jobs and plugin versions kept per group.
local GROUPS_MAX, SAMPLES_MAX, VERSIONS_MAX = 100, 10, 20

-- Notes a failed attempt. Failure: f fingerprint, k kind, m message, n pattern, tr innermost calls, one a line,
-- v plugin version.
local function note_failure(type, id, failure, final)
  local group, groups = key('error:' .. failure.f), key('errors:' .. type)
  local version = 'v:' .. (failure.v or '')
  local samples, known, first = unpack(redis.call('HMGET', group, 'jobs', version, 'first'))
  samples = samples or ''
  if not string.find(samples, id, 1, true) then
    samples = string.sub(id .. ' ' .. samples, 1, SAMPLES_MAX * (#id + 1))
  end
  local now = string.format('%.0f', NOW)
  redis.call('HSET', group, 'type', type, 'kind', failure.k, 'message', failure.m, 'pattern', failure.n,
    'trace', failure.tr or '', 'last', now, 'first', first or now, 'jobs', samples)
  redis.call('HINCRBY', group, 'count', 1)
  if final then redis.call('HINCRBY', group, 'failed', 1) end
  -- Beside the versions a group has ten fields at most.
  if known or redis.call('HLEN', group) < 10 + VERSIONS_MAX then redis.call('HINCRBY', group, version, 1) end
  redis.call('ZADD', groups, now, failure.f)
  if not first and redis.call('ZCARD', groups) > GROUPS_MAX then
    redis.call('UNLINK', key('error:' .. redis.call('ZPOPMIN', groups)[1]))
  end
end

local BASE_32 = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
local HOOK = 'waymark.webhook'
local ENDS = { S = 'succeeded', F = 'failed', C = 'cancelled' }

-- Whoever wants to know of the end of a job is told by a job of its own, made in the call that ends the job: once for
-- each run. Its id is what tells a repeated delivery. Webhooks: u address, n endpoint, on letters of the ends. Trace: where
-- in a distributed trace the end stands, as a job's spec has it, or nil.
local function announce(id, type, run, letter, webhooks, trace)
  for number, webhook in ipairs(webhooks or {}) do
    if string.find(webhook.on, letter, 1, true) then
      local time, rest = {}, NOW
      for at = 10, 1, -1 do
        time[at] = string.sub(BASE_32, rest % 32 + 1, rest % 32 + 1)
        rest = math.floor(rest / 32)
      end
      local digest = string.upper(redis.sha1hex(id .. run .. letter .. number))
      local hook = table.concat(time) .. string.sub(digest, 1, 14) .. string.sub(id, 25)
      local input = { job = id, type = type, run = run, status = ENDS[letter], at = NOW, url = webhook.u, endpoint = webhook.n }
      redis.call('HSET', key('jobs'), hook, cmsgpack.pack({ t = HOOK, c = id, i = cjson.encode(input), tr = trace }))
      redis.call('ZADD', key('corr:' .. id), 0, hook)
      redis.call('SADD', key('types'), HOOK)
      enqueue(HOOK, HOOK, 0, hook, false)
      depth(HOOK, 1)
      count(HOOK, 'q', 1)
      index_add('q', HOOK, hook)
      event(hook, 'q')
    end
  end
end

-- Workers of Celery are told to drop the task that runs in place of a job. Nobody need hear it, and a user of Redis who
-- may not say it can end the job all the same.
local function revoke(record)
  if not record.sent then return end
  redis.pcall('PUBLISH', record.sent.c, record.sent.v)
  record.sent = nil
end

local POISONED = 'a worker died under the job '

-- Takes a job from a claimed worker that is gone. Answers the letter of the state it went to.
local function take_back(id, claim, crashed, crashes_max)
  local spec = spec_of(id)
  redis.call('HDEL', key('claims'), id)
  release_many({ id }, { claim })
  local pausing = redis.call('HGET', key('ctl'), id)
  if pausing then redis.call('HDEL', key('ctl'), id) end
  if not spec then return 'q' end
  local _, record = state_of(id)
  local letter = 'q'
  if crashed then
    note_stay(record, claim, 'lost')
    record.crashes = (record.crashes or 0) + 1
    if record.crashes >= crashes_max then
      letter = 'F'
      revoke(record)
      record.ended_ms = NOW
      record.error = {
        kind = 'poisonous',
        message = POISONED .. record.crashes .. ' times in a row',
      }
    end
  end
  if letter == 'q' and pausing then
    letter = 'p'
    note_past(record, 'pause', who_pauses(pausing))
  end
  put_state(id, letter, record)
  move(spec.t, spec.lane, id, 'r', letter)
  if letter == 'q' then enqueue(spec.lane, spec.t, spec.p, id, true) end
  if letter == 'F' then
    release_unique(spec.u, id)
    tell_parent(spec.pa, id, 'F' .. record.error.message)
    announce(id, spec.t, record.run or 1, 'F', spec.wh, spec.tr)
    if spec.ce then tell_celery(id, 'F', spec.ce, '', cmsgpack.pack(record)) end
    local error = record.error
    note_failure(spec.t, id, {
      f = string.sub(redis.sha1hex(spec.t .. ' ' .. error.kind), 1, 16),
      k = error.kind, m = error.message, n = POISONED .. '<number> times in a row', v = record.version or '',
    }, true)
  end
  event(id, letter)
  return letter
end

local CANCELLED = 'Fthe job was cancelled'

-- Ends a job that has not ended, because somebody wants it. A worker that holds it is told on the channel. Orphans,
-- where given, gets the parent that is to be told: only after a flush, where one call ends many jobs.
local function cancel_one(id, spec, letter, record, claim, channel, orphans)
  if claim then
    note_stay(record, claim, 'cancelled')
    redis.call('HDEL', key('claims'), id)
    redis.call('HDEL', key('ctl'), id)
    release_many({ id }, { claim })
    redis.call('PUBLISH', channel, claim_worker(claim) .. ' drop ' .. id .. ' ' .. claim_token(claim))
  end
  redis.call('ZREM', key('due'), id)
  revoke(record)
  record.ended_ms, record.not_before_ms, record.signal, record.parked = NOW, nil, nil, nil
  put_state(id, 'C', record)
  move(spec.t, spec.lane, id, letter, 'C')
  release_unique(spec.u, id)
  spread(id, spec.t, 'cancel')
  if not orphans then
    tell_parent(spec.pa, id, CANCELLED)
  elseif spec.pa then
    orphans[#orphans + 1] = { spec.pa, id }
  end
  announce(id, spec.t, record.run or 1, 'C', spec.wh, spec.tr)
  if spec.ce then tell_celery(id, 'C', spec.ce, '', cmsgpack.pack(record)) end
  event(id, 'C')
end

-- When a job is due, or nil if that is now. Extra: d delay ms, b not before (Unix ms).
local function due_of(extra)
  local due = math.max(extra.d and NOW + extra.d or 0, extra.b or 0)
  return due > NOW and due or nil
end

local function park(id, type, due)
  due_at(id, due)
  put_state(id, 's', { run = 1, not_before_ms = due })
  count(type, 's', 1)
  index_add('s', type, id)
end

-- Further indexes of a new job. Extra: c correlation id, g tags.
local function label(id, queue, type, extra)
  if queue ~= type then
    local list = list_of(added, 'xq:' .. queue)
    list[#list + 1] = 0
    list[#list + 1] = id
  end
  if not extra then return end
  if extra.c then redis.call('ZADD', key('corr:' .. extra.c), 0, id) end
  for _, tag in ipairs(extra.g or {}) do redis.call('ZADD', key('tag:' .. tag), 0, id) end
end

local function create_one(id, spec, lane, type, priority, due, extra)
  redis.call('HSET', key('jobs'), id, spec)
  label(id, queue_of(lane), type, extra)
  if due then
    park(id, type, due)
    return 's'
  end
  enqueue(lane, type, priority, id, false)
  depth(lane, 1)
  count(type, 'q', 1)
  index_add('q', type, id)
  return 'q'
end

-- What changes of a schedule: rev changes of its definition, fp what its times depend on, next planned time (ms),
-- wait planned time that waits for the end of the job made last, paused, job made last, last time it fired (ms),
-- fired and missed times, error.
local function schedule_state(name)
  local packed = redis.call('HGET', key('schedst'), name)
  return packed and cmsgpack.unpack(packed)
end

local function put_schedule_state(name, state, due)
  redis.call('HSET', key('schedst'), name, cmsgpack.pack(state))
  if due and not state.paused then
    redis.call('ZADD', key('schedn'), string.format('%.0f', due), name)
  else
    redis.call('ZREM', key('schedn'), name)
  end
end

-- Notes what became of a planned time: p planned (ms), f when that was (ms), j the job, w why there is none, n how
-- many times.
local function schedule_history(name, entry)
  redis.call('LPUSH', key('schedh:' .. name), cmsgpack.pack(entry))
  redis.call('LTRIM', key('schedh:' .. name), 0, 19)
end
