#!lua flags=no-writes
-- Reads log lines.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id, number of the first line wanted (0 is the job's first line ever), most lines
--
-- Answers  the number of the first line that follows, then the lines
local dropped = tonumber(redis.call('HGET', key('dropped'), ARGV[1]) or 0)
local first = math.max(tonumber(ARGV[2]), dropped)
local from = first - dropped
local lines = redis.call('LRANGE', key('log:' .. ARGV[1]), from, from + ARGV[3] - 1)
table.insert(lines, 1, string.format('%.0f', first))
return lines
