#!lua flags=allow-oom
-- Forgets groups of failures.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     job type, fingerprint or '' for every group of the type that was last seen so many ms ago (at most 200
--          a call), that age
--
-- Answers  how many were forgotten
local groups = key('errors:' .. ARGV[1])
local ids = { ARGV[2] }
if ARGV[2] == '' then
  ids = redis.call('ZRANGEBYSCORE', groups, '-inf', string.format('%.0f', NOW - ARGV[3]), 'LIMIT', 0, 200)
end
local forgotten = 0
for _, id in ipairs(ids) do
  if redis.call('ZREM', groups, id) == 1 then
    redis.call('UNLINK', key('error:' .. id))
    forgotten = forgotten + 1
  end
end
return forgotten
