#!lua
-- Pauses, resumes or purges a queue.
--
-- KEYS[1]  head of the partition's keys
-- ARGV[1]  queue     ARGV[2]  'pause', 'resume' or 'purge'
--
-- Answers  the number of jobs cancelled (purge: at most 500 a call; call again until it is 0), else 0
local queue, verb = ARGV[1], ARGV[2]
local lines = redis.call('SMEMBERS', key('lines:' .. queue))
if verb == 'pause' then
  redis.call('SADD', key('paused'), queue)
  for _, line in ipairs(lines) do
    local selector, priority = string.match(line, '^(.*)|(%d)$')
    redis.call('ZREM', key('ready:' .. selector), priority .. '|' .. queue)
  end
  return 0
end
if verb == 'resume' then
  redis.call('SREM', key('paused'), queue)
  for _, line in ipairs(lines) do
    local selector, priority = string.match(line, '^(.*)|(%d)$')
    open_line(queue, selector, priority)
  end
  redis.call('PUBLISH', key('wake'), '')
  return 0
end
local cancelled, popped, orphans = 0, 0, {}
for _, line in ipairs(lines) do
  local selector, priority = string.match(line, '^(.*)|(%d)$')
  while popped < 500 do
    local ids = redis.call('RPOP', key('line:' .. line_name(queue, selector, priority)), 500 - popped)
    if not ids then
      redis.call('ZREM', key('ready:' .. selector), priority .. '|' .. queue)
      redis.call('SREM', key('lines:' .. queue), line)
      break
    end
    popped = popped + #ids
    for _, id in ipairs(ids) do
      local spec = spec_of(id)
      local letter, record = state_of(id)
      if spec and letter == 'q' and spec.q == queue then
        record.ended_ms = NOW
        put_state(id, 'C', record)
        move(spec.t, spec.q, id, 'q', 'C')
        release_unique(spec.u, id)
        spread(id, spec.t, 'cancel')
        if spec.pa then orphans[#orphans + 1] = { spec.pa, id } end
        event(id, 'C')
        cancelled = cancelled + 1
      end
    end
  end
end
flush()
-- Only now: a parent that this call wakes and cancels would leave an index it only just came to.
for _, one in ipairs(orphans) do tell_parent(one[1], one[2], 'Fthe job was cancelled') end
flush()
-- A batch of nothing but entries of jobs that moved on is not the end.
if cancelled == 0 and popped >= 500 then return -1 end
return cancelled
