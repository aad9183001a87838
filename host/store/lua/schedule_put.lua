#!lua
-- Creates or replaces a schedule. As long as what its times depend on stays the same, its next time does.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     name, packed definition, what its times depend on, next planned time (ms) or '', when that is due (ms) or
--          '', '1' paused, '0' not, '' as it is, '1' if a configuration file asks
--
-- Answers  'C' created, 'R' replaced, 'S' the same was there, 'F' refused: a file holds it
local name, packed, fingerprint = ARGV[1], ARGV[2], ARGV[3]
local known = redis.call('HGET', key('sched'), name)
if known and ARGV[7] ~= '1' and cmsgpack.unpack(known).from_file then return 'F' end
local state = known and schedule_state(name) or { rev = 0, fired = 0, missed = 0 }
local paused = state.paused or false
if ARGV[6] ~= '' then paused = ARGV[6] == '1' end
local resumed = state.paused and not paused
if known == packed and paused == (state.paused or false) then return 'S' end

local due = redis.call('ZSCORE', key('schedn'), name)
if resumed or state.fp ~= fingerprint then
  state.next, due = tonumber(ARGV[4]), ARGV[5]
  state.wait, state.error = nil, nil
end
if paused then state.wait = nil end
state.paused, state.fp, state.rev = paused or nil, fingerprint, state.rev + 1
redis.call('HSET', key('sched'), name, packed)
redis.call('ZADD', key('schedx'), 0, name)
put_schedule_state(name, state, tonumber(due or ''))
return known and 'R' or 'C'
