#!lua flags=allow-oom
-- Pauses, resumes or purges a queue, or sets its limits, a portion of its lines per call.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     queue; 'pause', 'resume', 'purge' or 'limits'; cursor (first '0'); limits: the packed rules, or '' for none
--
-- Answers  the next cursor, '0' at the end; the number of jobs cancelled (purge: at most about 200 a call), else 0
-- Events   C for every job cancelled; wake
local queue, verb, cursor = ARGV[1], ARGV[2], ARGV[3]

if verb == 'limits' then
  if cursor == '0' then
    if ARGV[4] == '' then
      redis.call('HDEL', key('limits'), queue)
    else
      redis.call('HSET', key('limits'), queue, ARGV[4])
    end
  end
  -- Whatever waits behind the limits before is looked at anew.
  local page = redis.call('HSCAN', key('blocked'), cursor, 'COUNT', 200)
  for at = 1, #page[2], 2 do
    local name, scope = page[2][at], page[2][at + 1]
    if queue_of(scope) == queue then
      redis.call('HDEL', key('blocked'), name)
      redis.call('ZREM', key('blocked:' .. scope), name)
      open_line(split_line(name))
    end
  end
  redis.call('PUBLISH', key('wake'), '')
  return { page[1], 0 }
end

if cursor == '0' and verb == 'pause' then redis.call('SADD', key('paused'), queue) end
if cursor == '0' and verb == 'resume' then redis.call('SREM', key('paused'), queue) end

if verb ~= 'purge' then
  local page = redis.call('SSCAN', key('lines:' .. queue), cursor, 'COUNT', 500)
  for _, line in ipairs(page[2]) do
    local lane, selector, priority = split_line(line)
    if verb == 'resume' then
      open_line(lane, selector, priority)
    else
      redis.call('ZREM', key('ready:' .. selector), priority .. '|' .. lane)
    end
  end
  if verb == 'resume' then redis.call('PUBLISH', key('wake'), '') end
  return { page[1], 0 }
end

local PURGED_MAX = 200
local cancelled, popped, orphans = 0, 0, {}
while popped < PURGED_MAX do
  local line = redis.call('SRANDMEMBER', key('lines:' .. queue))
  if not line then break end
  local ids = redis.call('RPOP', key('line:' .. line), PURGED_MAX - popped)
  if ids then
    popped = popped + #ids
    for _, id in ipairs(ids) do
      local spec = spec_of(id)
      local letter, record = state_of(id)
      if spec and letter == 'q' and spec.q == queue then
        cancel_one(id, spec, letter, record, nil, nil, orphans)
        cancelled = cancelled + 1
      end
    end
  else
    -- One round for an empty line counts too: there may be thousands.
    popped = popped + 1
    local lane, selector, priority = split_line(line)
    redis.call('ZREM', key('ready:' .. selector), priority .. '|' .. lane)
    redis.call('SREM', key('lines:' .. queue), line)
  end
end
flush()
-- Only now: a parent that this call wakes and cancels would leave an index it only just came to.
for _, one in ipairs(orphans) do tell_parent(one[1], one[2], CANCELLED) end
flush()
return { redis.call('EXISTS', key('lines:' .. queue)) == 1 and '1' or '0', cancelled }
