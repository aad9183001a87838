#!lua
-- The jobs that schedules of the partition fired and that are still to be created where their key belongs.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     cursor (first '0')
--
-- Answers  the next cursor, '0' at the end; then ten values for each, of 100 or so: name of the schedule, planned time
--          (ms), the job that is to be cancelled first or '', the job made before or '', and six values of the job
--          (create.lua)
local page = redis.call('HSCAN', key('schedo'), ARGV[1], 'COUNT', 100)
local answers = { page[1] }
for at = 2, #page[2], 2 do
  for _, value in ipairs(cmsgpack.unpack(page[2][at])) do answers[#answers + 1] = value end
end
return answers
