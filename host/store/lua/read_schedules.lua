#!lua flags=no-writes
-- Reads schedules with their states, as they stood at one moment.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     names
--
-- Answers  a definition and a state for each name, in turn; false where there is none
local found = {}
for _, name in ipairs(ARGV) do
  found[#found + 1] = redis.call('HGET', key('sched'), name)
  found[#found + 1] = redis.call('HGET', key('schedst'), name)
end
return found
