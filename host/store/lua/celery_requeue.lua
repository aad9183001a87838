#!lua
-- Puts messages of the dead list back into the Celery queues that they came from, the oldest first.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     database of the store, database of the broker, most messages
--
-- Answers  how many; how many are left
local own, broker = ARGV[1], ARGV[2]
local moved = 0
for _ = 1, tonumber(ARGV[3]) do
  local packed = redis.call('RPOP', key('celery:dead'))
  if not packed then break end
  local one = cmsgpack.unpack(packed)
  if broker ~= own then redis.call('SELECT', broker) end
  redis.call('LPUSH', one.k, one.m)
  if broker ~= own then redis.call('SELECT', own) end
  moved = moved + 1
end
return { moved, redis.call('LLEN', key('celery:dead')) }
