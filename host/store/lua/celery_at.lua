#!lua
-- One command in the database of the broker or of the results.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     database of the store, the other database, 'push' list message, 'read' key, 'parts' key, 'length' list...,
--          or 'publish' channel message
--
-- Answers  what the command answers; 'parts': the members of a sorted set; 'length': the sum
local own, other, verb, a, b = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if other ~= own then redis.call('SELECT', other) end
local answer
if verb == 'push' then
  answer = redis.call('LPUSH', a, b)
elseif verb == 'read' then
  answer = redis.call('GET', a)
elseif verb == 'parts' then
  answer = redis.call('ZRANGE', a, 0, -1)
elseif verb == 'publish' then
  answer = redis.call('PUBLISH', a, b)
elseif verb == 'length' then
  answer = 0
  for at = 4, #ARGV do answer = answer + redis.call('LLEN', ARGV[at]) end
end
if other ~= own then redis.call('SELECT', own) end
return answer
