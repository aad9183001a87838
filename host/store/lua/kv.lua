#!lua flags=allow-oom
-- A bucket of values that expire, with a quota. What has expired is gone for every reader, and is removed by later calls.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     verb; bucket; bytes that the bucket may hold, names included; time until a value that is written now expires
--          (ms); and by verb, at most 100 names:
--          'get' names; 'set' name, value, name, value …; 'delete' names; 'keys' index of the first; 'increment' name,
--          delta
--
-- Answers  get        a value or nil for each name
--          set        1, or 0: over the quota, and nothing was written
--          delete     1
--          keys       { names, index of the next or '' }
--          increment  the new value as text; '' over the quota; an error where the value is no number
local verb, bucket, most, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local values, ends = key('kv:' .. bucket), key('kv:' .. bucket .. ':ends')

local function size(name)
  local length = redis.call('HSTRLEN', values, 'v' .. name)
  return length > 0 and length + #name or 0
end
local function remove(name)
  local bytes = size(name)
  redis.call('HDEL', values, 'v' .. name)
  redis.call('ZREM', ends, name)
  -- Zero has a sign in Lua, and none in Redis.
  if bytes > 0 then redis.call('HINCRBY', values, 'bytes', -bytes) end
end
for _, name in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', NOW, 'LIMIT', 0, 100)) do remove(name) end

local function alive(name)
  local at = redis.call('ZSCORE', ends, name)
  return at and tonumber(at) > NOW
end
local function keep(name, bytes)
  redis.call('HINCRBY', values, 'bytes', bytes)
  redis.call('ZADD', ends, NOW + ttl, name)
  -- Never sooner than what was written before with a longer time.
  for _, own in ipairs({ values, ends }) do
    if redis.call('PTTL', own) < ttl then redis.call('PEXPIRE', own, ttl) end
  end
end
local function has_room(bytes)
  return tonumber(redis.call('HGET', values, 'bytes') or '0') + bytes <= most
end

if verb == 'get' then
  local found = {}
  for at = 5, #ARGV do
    found[#found + 1] = alive(ARGV[at]) and redis.call('HGET', values, 'v' .. ARGV[at]) or false
  end
  return found
end
if verb == 'delete' then
  for at = 5, #ARGV do remove(ARGV[at]) end
  return 1
end
if verb == 'keys' then
  local from = tonumber(ARGV[5])
  local names = redis.call('ZRANGEBYSCORE', ends, '(' .. NOW, '+inf', 'LIMIT', from, 101)
  local next_index = ''
  if #names > 100 then
    names[101] = nil
    next_index = tostring(from + 100)
  end
  return { names, next_index }
end
if verb == 'increment' then
  local name = ARGV[5]
  if not alive(name) then remove(name) end
  local before = size(name)
  -- A number has at most 20 digits.
  if before == 0 and not has_room(#name + 20) then return '' end
  redis.call('HINCRBY', values, 'v' .. name, ARGV[6])
  keep(name, size(name) - before)
  return redis.call('HGET', values, 'v' .. name)
end
local more = 0
for at = 5, #ARGV, 2 do more = more + #ARGV[at] + #ARGV[at + 1] - size(ARGV[at]) end
if not has_room(more) then return 0 end
for at = 5, #ARGV, 2 do
  local before = size(ARGV[at])
  redis.call('HSET', values, 'v' .. ARGV[at], ARGV[at + 1])
  keep(ARGV[at], #ARGV[at] + #ARGV[at + 1] - before)
end
return 1
