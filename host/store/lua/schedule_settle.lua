#!lua
-- A job that a schedule owed was created, or another stands for it, or a limit refused it.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     name of the schedule, id, planned time (ms), the job made before or '', 'C' created, 'E' another stands for
--          it, 'L' a limit refused it; the id of the one that stands for it or ''
--
-- Answers  1, or 0 if somebody else said so before
local name, id, planned, before, letter, other = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6]
if redis.call('HDEL', key('schedo'), id) == 0 then return 0 end
local state = schedule_state(name)
-- It may have been deleted meanwhile.
if not state then return 1 end
if letter == 'C' then
  schedule_history(name, { p = planned, f = NOW, j = id })
  return 1
end
if state.job == id then
  state.job = before ~= '' and before or nil
  redis.call('HSET', key('schedst'), name, cmsgpack.pack(state))
end
if letter == 'E' then
  schedule_history(name, { p = planned, f = NOW, j = other, w = 'unique' })
else
  schedule_history(name, { p = planned, f = NOW, w = 'limit' })
end
return 1
