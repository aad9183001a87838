#!lua
-- Gives waiting jobs to a worker: highest priority first, lines of the same priority by turns, never more than the
-- limits of a queue and of its keys allow. Before that at most 200 jobs that are due go into their lines, and lines
-- behind at most 20 limits whose time has come are looked at again.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     worker, token (new for every call), most jobs (1 to 1,000), 0, or the turn of a priority below the
--          highest to go first, number of queues served (0: all), those queues, then the selectors
--
-- Answers  'GONE' if the worker is not registered or its lease ran out; 'USED' if the token was used or given up
--          before: nothing is claimed then. Else the time in ms, when the next job or limit is due in ms or '', and
--          for each job: id, packed spec, '' or state letter + packed record
-- Events   q for every job that was due, r for every job claimed, wake if a job was due
local worker, token, left, fair = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local first_selector = 6 + tonumber(ARGV[5])
-- Entries of jobs that were paused, cancelled or deleted are skipped; so many in one call.
local SKIPS_MAX = 2000
-- A large claim takes several jobs from each line, so that what lines and their limits cost is shared: where so many
-- lines wait, so many have a turn in any claim (or as many as there are jobs asked for).
local TURNS_MIN = 16
-- Lines looked at per selector, and per queue that was chosen.
local LINES_MAX = 3 * TURNS_MIN
-- Chosen queues that are looked up by name; of more, those whose lines are not among the first may wait.
local CHOSEN_MAX = 200

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
      -- One that looks after a task of Celery is done in a moment: the end of the task is told before others begin.
      if letter == 's' or letter == 'w' then wake(id, spec, letter, record, record.sent ~= nil) end
    end
  end
  flush()
  due = redis.call('ZRANGE', key('due'), 0, 0, 'WITHSCORES')
end

-- Limits ------------------------------------------------------------------------------------------------------

local limited = exists('limits')
local limits = {}
local function limits_of(queue)
  if limits[queue] == nil then
    local packed = limited and redis.call('HGET', key('limits'), queue)
    limits[queue] = packed and cmsgpack.unpack(packed) or false
  end
  return limits[queue]
end

-- How much of a limit is used. Rule: c most weight at once, r rate: n weight in p ms, b burst of a token bucket, or
-- none for a sliding window.
local scopes, touched = {}, {}
local function scope_of(name, concurrency, rate)
  local scope = scopes[name]
  if scope then return scope end
  scope = { name = name, c = concurrency, r = rate, used = 0, busy = 0 }
  scopes[name] = scope
  touched[#touched + 1] = scope
  if concurrency then scope.busy = tonumber(redis.call('HGET', key('busy'), name) or 0) end
  if rate then
    scope.stored = tonumber(redis.call('GET', key('rate:' .. name)) or 0)
    if not rate.b then
      -- What has left the window is counted no more.
      local over = false
      while not over do
        local entries = redis.call('LRANGE', key('window:' .. name), 0, 49)
        local old = 0
        for _, entry in ipairs(entries) do
          local at, weight = string.match(entry, '^(%d+):(%d+)$')
          if tonumber(at) + rate.p > NOW then break end
          old, scope.stored = old + 1, scope.stored - weight
        end
        if old > 0 then redis.call('LPOP', key('window:' .. name), old) end
        over = old < 50
      end
      if scope.stored < 0 then scope.stored = 0 end
    end
  end
  return scope
end

-- The weight that may still start now, and whether a heavier job may: alone where nothing else counts.
local function room(scope)
  local most, idle = math.huge, true
  if scope.c then most, idle = scope.c - scope.busy - scope.used, scope.busy + scope.used == 0 end
  local rate = scope.r
  if rate and rate.b then
    local each = rate.p / rate.n
    local full_at = math.max(scope.stored, NOW) + scope.used * each
    most = math.min(most, math.floor((NOW + rate.b * each - full_at) / each + 0.000001))
    idle = idle and full_at <= NOW
  elseif rate then
    most = math.min(most, rate.n - scope.stored - scope.used)
    idle = idle and scope.stored + scope.used == 0
  end
  return most, idle
end

-- The first of some limits that has no room for a job of this weight; nil if all have.
local function too_full(rules, weight)
  for _, scope in ipairs(rules) do
    local here, idle = room(scope)
    if here < weight and not idle then return scope end
  end
end

-- When the rate may have room for what waits, ms; nil without a rate.
local function room_at(scope)
  local rate = scope.r
  if not rate then return nil end
  if rate.b then
    local each = rate.p / rate.n
    return math.ceil(math.max(scope.stored, NOW) - (rate.b - math.min(scope.heavy or 1, rate.b)) * each)
  end
  local oldest = redis.call('LINDEX', key('window:' .. scope.name), 0)
  return oldest and tonumber(string.match(oldest, '^(%d+)')) + rate.p or NOW + rate.p
end

-- The limits that hold for a lane: its queue's, and its key's.
local function scopes_of(lane)
  local queue = queue_of(lane)
  local rules = limits_of(queue)
  if not rules then return nil end
  local list = { scope_of(queue, rules.c, rules.r), rules = rules }
  if lane ~= queue then list[2] = scope_of(lane, rules.kc, rules.kr) end
  return list
end

if limited and exists('opens') then
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', key('opens'), '-inf', NOW, 'LIMIT', 0, 20)) do
    redis.call('ZREM', key('opens'), name)
    if redis.call('EXISTS', key('blocked:' .. name)) == 1 then
      local most = 20
      for _, scope in ipairs(scopes_of(name) or {}) do
        if scope.name == name then most = math.min(most, (room(scope))) end
      end
      if most >= 1 then open_blocked(name, most) end
    end
  end
end

-- Lines -------------------------------------------------------------------------------------------------------

-- Lines that may be served: score, selector, lane, priority, band.
local lines, known, full, sources = {}, {}, false, 0
-- Entries come in their order. Only where they are looked for in several ways may some be known.
local several = only or fair > 0
local function add(selector, entries)
  if #entries > 0 then sources = sources + 1 end
  for at = 1, #entries, 2 do
    local member, score = entries[at], tonumber(entries[at + 1])
    local lane, name = string.sub(member, 3), several and selector .. ' ' .. member
    if not (several and known[name]) and (not only or only[queue_of(lane)]) then
      if several then known[name] = true end
      local band = math.floor(score / PRIORITY_SPAN)
      lines[#lines + 1] = { score, selector, lane, string.sub(member, 1, 1), band }
    end
  end
end
for at = first_selector, #ARGV do
  local name = key('ready:' .. ARGV[at])
  local entries = redis.call('ZRANGE', name, 0, (only and 10 or 1) * LINES_MAX - 1, 'WITHSCORES')
  add(ARGV[at], entries)
  full = full or #entries >= 2 * LINES_MAX
  if fair > 0 and #entries >= 2 * LINES_MAX then
    for band = 0, 9 do
      local from, to = string.format('%.0f', band * PRIORITY_SPAN), string.format('(%.0f', (band + 1) * PRIORITY_SPAN)
      add(ARGV[at], redis.call('ZRANGEBYSCORE', name, from, to, 'WITHSCORES', 'LIMIT', 0, LINES_MAX))
    end
  end
end
-- Queues that were chosen are found by their names too, however many others stand in front of them.
if only then
  local wanted, members = {}, {}
  for at = first_selector, #ARGV do wanted[ARGV[at]] = true end
  for at = 6, math.min(first_selector - 1, 5 + CHOSEN_MAX) do
    local queue = ARGV[at]
    for _, line in ipairs(redis.call('SRANDMEMBER', key('lines:' .. queue), LINES_MAX)) do
      local lane, selector, priority = split_line(line)
      if wanted[selector] then gather(members, selector, priority .. '|' .. lane) end
    end
  end
  for selector, list in pairs(members) do
    local scores, entries = read_many('ZMSCORE', key('ready:' .. selector), list), {}
    for at, member in ipairs(list) do
      if scores[at] then
        entries[#entries + 1] = member
        entries[#entries + 1] = scores[at]
      end
    end
    add(selector, entries)
  end
end
if fair > 0 then
  -- Any priority but the highest may be the one that goes first.
  local bands, seen = {}, {}
  for _, one in ipairs(lines) do
    if not seen[one[5]] then bands[#bands + 1] = one[5] end
    seen[one[5]] = true
  end
  table.sort(bands)
  local chosen = #bands > 1 and bands[#bands - (fair - 1) % (#bands - 1)] or bands[1]
  for _, one in ipairs(lines) do
    if one[5] == chosen then one[5], one[1] = -1, one[1] - 16 * PRIORITY_SPAN end
  end
end
if several or sources > 1 then
  table.sort(lines, function(left_one, right_one) return left_one[1] < right_one[1] end)
end

local answers, size = { string.format('%.0f', NOW), '' }, 2
local claims, held, mine, skips = {}, 0, {}, SKIPS_MAX
local any_moved = redis.call('EXISTS', key('moved')) == 1
local value = token .. ':-1:' .. worker .. ':' .. string.format('%.0f', NOW)
local started, removed_any = {}, false

-- Takes up to `most` jobs from a line. Returns how many, and whether it can give no more now: it is empty, or waits
-- behind a limit.
local function take(one, most)
  local name = key('line:' .. line_name(one[3], one[2], one[4]))
  local rules = scopes_of(one[3])
  local got = 0
  local own, keyed = rules and rules[1], rules and rules[2]
  local star = rules and rules.rules.s == 'cancel_running' and '*' or ''
  local once = rules and value .. '|' .. star .. '1|' .. one[3]
  -- It keeps its turn behind a limit, unless it was served.
  local function block(scope)
    local served = got > 0 or (one.got or 0) > 0
    block_line(one[3], one[2], one[4], served and NOW_US - EPOCH_US or one[1] % PRIORITY_SPAN, scope.name)
    removed_any = true
    return got, true
  end
  while got < most and skips > 0 do
    local wanted, light = most - got, true
    if rules then
      for _, scope in ipairs(rules) do
        local here, idle = room(scope)
        if here < 1 and not idle then return block(scope) end
        wanted = math.min(wanted, math.max(1, here))
      end
    end
    local ids = redis.call('RPOP', name, wanted)
    if not ids then
      one.empty = true
      return got, true
    end
    local specs = read_many('HMGET', key('jobs'), ids)
    local states = read_many('HMGET', key('st'), ids)
    local taken = read_many('HMGET', key('claims'), ids)
    -- A job that was moved stands in its new line; entries that it left in others do not count.
    local moved, place = any_moved and read_many('HMGET', key('moved'), ids) or {}, one[3] .. '|' .. one[4]
    for at = 1, #ids do
      local id, stored, spec = ids[at], states[at], specs[at]
      local stands = not moved[at] or moved[at] == place
      local claim = value
      if spec and stands and not taken[at] and not mine[id] and (not stored or string.byte(stored) == 113) then
        -- Fields of the spec that are rarely there, found without unpacking it: "w" and "um".
        if rules then
          local weight = string.find(spec, '\161w', 1, true) and cmsgpack.unpack(spec).w or 1
          -- There is room for as many as were asked for if each counts for one.
          light = light and weight == 1
          local scope = not light and too_full(rules, weight)
          if scope then
            scope.heavy = weight
            -- It and those behind it go back where they were.
            local back = {}
            for rest = #ids, at, -1 do back[#back + 1] = ids[rest] end
            write_many('RPUSH', name, back)
            return block(scope)
          end
          own.used = own.used + weight
          if keyed then keyed.used = keyed.used + weight end
          local strategy = rules.rules.s
          claim = light and once or value .. '|' .. star .. weight .. '|' .. one[3]
          if strategy == 'cancel_running' or strategy == 'replace' then
            local over = rules[2] and rules[2].c and rules[2].name or queue_of(one[3])
            if star ~= '' then
              redis.call('ZADD', key('runners:' .. over), string.format('%.0f', NOW_US), id)
            end
            if redis.call('HGET', key('newest'), over) == id then redis.call('HDEL', key('newest'), over) end
          end
        end
        -- Whether the callers of a Celery task want to know that it begins.
        if string.find(spec, '\162cb', 1, true) then
          local whole = cmsgpack.unpack(spec)
          if whole.ce and whole.cb then tell_celery(id, 'b', whole.ce, value, '') end
        end
        if string.find(spec, '\162um', 1, true) then
          local whole = cmsgpack.unpack(spec)
          if whole.um == 's' then started[#started + 1] = whole.u .. '\n' .. id end
        end
        mine[id] = true
        got = got + 1
        answers[size + 1], answers[size + 2], answers[size + 3] = id, spec, stored or ''
        size = size + 3
        claims[held + 1], claims[held + 2] = id, claim
        held = held + 2
        event(id, 'r')
      else
        skips = skips - 1
      end
    end
    if #ids < wanted then
      one.empty = true
      return got, true
    end
  end
  return got, false
end

local portion = math.floor(left / TURNS_MIN)
local turn = NOW_US - EPOCH_US
local from = 1
while from <= #lines and left > 0 and skips > 0 do
  local to = from
  while lines[to + 1] and lines[to + 1][5] == lines[from][5] do to = to + 1 end
  local live = {}
  for at = from, to do live[#live + 1] = lines[at] end
  -- Lines of this priority get their share, or the least portion; what some do not use the others get.
  while #live > 0 and left > 0 and skips > 0 do
    local rest = {}
    for at, one in ipairs(live) do
      if left == 0 then break end
      local got, over = take(one, math.min(left, math.max(portion, math.ceil(left / (#live - at + 1)))))
      left = left - got
      one.got = (one.got or 0) + got
      one.gone = over
      if one.empty then
        redis.call('ZREM', key('ready:' .. one[2]), one[4] .. '|' .. one[3])
        redis.call('SREM', key('lines:' .. queue_of(one[3])), line_name(one[3], one[2], one[4]))
        removed_any = true
      elseif not over then
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
        if not one.gone then
          local list = list_of(added, 'ready:' .. one[2])
          list[#list + 1] = string.format('%.0f', (9 - one[4]) * PRIORITY_SPAN + turn)
          list[#list + 1] = one[4] .. '|' .. one[3]
        end
      end
    end
  end
  from = to + 1
end
if held > 0 then
  write_many('HSET', key('claims'), claims)
  redis.call('SET', key('token:' .. token), 1, 'EX', 3600)
end
for _, one in ipairs(started) do
  local unique, id = string.match(one, '^(.*)\n(.*)$')
  release_unique(unique, id)
end

-- What was used of the limits; and when those that lines wait behind have room again.
for _, scope in ipairs(touched) do
  local rate, used = scope.r, scope.used
  if used > 0 then
    redis.call('HINCRBY', key('busy'), scope.name, used)
    if rate then
      local stored
      if rate.b then
        stored = math.max(scope.stored, NOW) + used * rate.p / rate.n
      else
        stored = scope.stored + used
        redis.call('RPUSH', key('window:' .. scope.name), string.format('%.0f:%d', NOW, used))
        redis.call('PEXPIRE', key('window:' .. scope.name), 2 * rate.p)
      end
      local kept = string.format('%.0f', math.max(2 * rate.p, rate.b and stored - NOW or 0))
      redis.call('SET', key('rate:' .. scope.name), string.format('%.3f', stored), 'PX', kept)
      scope.stored, scope.busy, scope.used = stored, scope.busy + used, 0
    end
  end
  if exists('blocked') and redis.call('EXISTS', key('blocked:' .. scope.name)) == 1 then
    if not scope.heavy and room(scope) >= 1 then
      opens_at(scope.name, NOW)
    else
      local at = room_at(scope)
      if at then opens_at(scope.name, math.max(at, NOW + 1)) end
    end
  end
end
local opens = limited and redis.call('ZRANGE', key('opens'), 0, 0, 'WITHSCORES') or {}
answers[2] = due[2] or ''
if opens[2] and (not due[2] or tonumber(opens[2]) < tonumber(due[2])) then answers[2] = opens[2] end
-- Lines that were not looked at stand further in front now.
if full and removed_any and left > 0 then answers[2] = answers[1] end
flush()
return answers
