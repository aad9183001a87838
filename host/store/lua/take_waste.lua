#!lua flags=allow-oom
-- Names objects that nothing refers to and whose time has come. From now on no commit can refer to them.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     most paths
--
-- Answers  their paths
local paths = redis.call('ZRANGEBYSCORE', key('waste'), '-inf', NOW, 'LIMIT', 0, ARGV[1])
for _, path in ipairs(paths) do redis.call('ZADD', key('waste'), 0, path) end
return paths
