#!lua flags=allow-oom
-- Pauses, resumes or deletes a schedule. Jobs that it made stay. What passes while it is paused is not missed.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     name, 'pause', 'resume' or 'delete', next planned time (ms) or '', when that is due (ms) or '' (resume)
--
-- Answers  'D' done, or the case already; 'M' no such schedule
local name, verb = ARGV[1], ARGV[2]
local state = schedule_state(name)
if not state then return 'M' end
if verb == 'delete' then
  redis.call('HDEL', key('sched'), name)
  redis.call('HDEL', key('schedst'), name)
  redis.call('ZREM', key('schedn'), name)
  redis.call('ZREM', key('schedx'), name)
  redis.call('DEL', key('schedh:' .. name))
  return 'D'
end
if (verb == 'pause') == (state.paused or false) then return 'D' end
if verb == 'pause' then
  state.paused, state.wait = true, nil
else
  state.paused, state.next = nil, tonumber(ARGV[3])
end
put_schedule_state(name, state, tonumber(ARGV[4]))
return 'D'
