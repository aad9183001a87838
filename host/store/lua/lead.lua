#!lua flags=allow-oom
-- Asks to lead the hosts, goes on leading, or gives that up. The leader does what is done once for all hosts; nothing
-- becomes wrong if two believe that they lead.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     host, how long it leads without asking again (ms); 0 gives up
--
-- Answers  the host that leads now, or ''
local holder = redis.call('GET', key('leader'))
if holder and holder ~= ARGV[1] then return holder end
if ARGV[2] == '0' then
  redis.call('DEL', key('leader'))
  return ''
end
redis.call('SET', key('leader'), ARGV[1], 'PX', ARGV[2])
return ARGV[1]
