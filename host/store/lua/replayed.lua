#!lua
-- Notes in the record of an ended job that another one was made from it; the last 10 are kept.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id, id of the new job
--
-- Answers  1, or 0 if there is no such job or it has not ended
local id, new = ARGV[1], ARGV[2]
if redis.call('HEXISTS', key('jobs'), id) == 0 then return 0 end
local letter, record = state_of(id)
if letter ~= 'S' and letter ~= 'F' and letter ~= 'C' then return 0 end
local replays = record.replays or {}
if replays[#replays] ~= new then replays[#replays + 1] = new end
if #replays > 10 then table.remove(replays, 1) end
record.replays = replays
put_state(id, letter, record)
return 1
