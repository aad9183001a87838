#!lua flags=allow-oom
-- Notes that what was asked of a parent has reached its children, unless something else was asked meanwhile.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     parent, what was asked
--
-- Answers  1 if it was noted, else 0
if redis.call('HGET', key('spread'), ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', key('spread'), ARGV[1])
