#!lua
-- Notes what the host did for a schedule that makes no jobs.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     name, planned time (ms), how long it took (ms), what it did, why it failed or ''
--
-- Answers  1, or 0 if there is no such schedule
local state = schedule_state(ARGV[1])
if not state then return 0 end
state.took, state.did = tonumber(ARGV[3]), ARGV[4]
state.error = ARGV[5] ~= '' and ARGV[5] or nil
redis.call('HSET', key('schedst'), ARGV[1], cmsgpack.pack(state))
schedule_history(ARGV[1], { p = tonumber(ARGV[2]), f = NOW, w = state.error or ARGV[4] })
return 1
