#!lua flags=allow-oom
-- Lets one of all that ask the same of a language model at the same moment really ask, while the others wait for its answer.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     'take' or 'leave'; name of the answer; who asks, unique; for how long, unless it is taken again (ms; of 'leave',
--          any)
--
-- Answers  1  it is this one's turn, or was left by it
--          0  another one asks
local flight = key('llm:flight:' .. ARGV[2])
local holder = redis.call('GET', flight)
if holder and holder ~= ARGV[3] then return 0 end
if ARGV[1] == 'take' then
  redis.call('SET', flight, ARGV[3], 'PX', ARGV[4])
elseif holder then
  redis.call('DEL', flight)
end
return 1
