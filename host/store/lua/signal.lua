#!lua
-- Delivers a signal to a job. A later one of the same name replaces an earlier one, until a step that waited for it is
-- committed.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id, name, payload
--
-- Answers  'D' the job waited for it and is queued now, 'S' stored until the job asks, 'E' + letter: the job has
--          ended, 'M' no such job
-- Events   q, wake
local id, name = ARGV[1], ARGV[2]
local spec = spec_of(id)
if not spec then return 'M' end
local letter, record = state_of(id)
if letter == 'S' or letter == 'F' or letter == 'C' then return 'E' .. letter end
redis.call('HSET', key('sig:' .. id), name, string.format('%.0f ', NOW_US) .. ARGV[3])
if letter ~= 'w' or record.signal ~= name then return 'S' end
record.heard = name
wake(id, spec, 'w', record, true)
flush()
return 'D'
