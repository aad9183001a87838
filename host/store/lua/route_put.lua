#!lua
-- Writes or removes the route of a job type, if it is still the one that the caller knows.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     job type, revision that the caller knows or '' (none), the route as JSON or '' (it goes), what changed as
--          JSON or '' (not told), changes kept, the revision with which what is counted begins, channel
--
-- Answers  'D' done; 'C' it was changed meanwhile: nothing is written
-- Events   "host routes" on the channel
local type, known, route, change = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local stored = redis.call('HGET', key('routes'), type)
local revision = ''
if stored then revision = string.format('%.0f', cjson.decode(stored).revision) end
if revision ~= known then return 'C' end
if route == '' then
  redis.call('HDEL', key('routes'), type)
else
  redis.call('HSET', key('routes'), type, route)
end
if change ~= '' then
  redis.call('LPUSH', key('routeh:' .. type), change)
  redis.call('LTRIM', key('routeh:' .. type), 0, ARGV[5] - 1)
end
-- Nobody looks any more at what was counted before.
local epoch = stored and string.format('%.0f', cjson.decode(stored).epoch)
if epoch and epoch ~= ARGV[6] then redis.call('UNLINK', key('routen:' .. type .. ':' .. epoch)) end
redis.call('PUBLISH', ARGV[7], 'host routes -')
return 'D'
