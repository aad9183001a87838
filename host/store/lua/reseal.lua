#!lua
-- Puts values of one job in the place of those that are there, each only if that is still what it was.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id of the job, then for each value: 'h' field of a hash, 'l' element of a list, or 's' a string; name of the
--          key; the field, the index, or ''; the value as it was; the value from now on; '' or the path of the object that it
--          referred to, and of the one that it refers to now
--
-- Answers  how many are there now; another changed meanwhile, or its new object was swept
local id, there = ARGV[1], 0
-- Whoever has just read the old reference may still read the object, ms.
local GRACE = 60000
for at = 2, #ARGV, 7 do
  local kind, name, place, before, after, old, new = unpack(ARGV, at, at + 6)
  local now
  if kind == 'h' then
    now = redis.call('HGET', key(name), place)
  elseif kind == 'l' then
    now = redis.call('LINDEX', key(name), place)
  else
    now = redis.call('GET', key(name))
  end
  if now == after then
    -- The answer of an earlier call was lost.
    there = there + 1
  elseif now == before and (new == '' or tonumber(redis.call('ZSCORE', key('waste'), new) or 0) > 0) then
    if kind == 'h' then
      redis.call('HSET', key(name), place, after)
    elseif kind == 'l' then
      redis.call('LSET', key(name), place, after)
      if name == 'log:' .. id then redis.call('HINCRBY', key('logbytes'), id, #after - #before) end
    else
      redis.call('SET', key(name), after, 'KEEPTTL')
    end
    if new ~= '' then
      redis.call('ZREM', key('waste'), new)
      redis.call('SADD', key('obj:' .. id), new)
      redis.call('SREM', key('obj:' .. id), old)
      redis.call('ZADD', key('waste'), string.format('%.0f', NOW + GRACE), old)
    end
    there = there + 1
  end
end
return there
