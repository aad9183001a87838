#!lua flags=allow-oom
-- Corrects what llm_take booked, and notes for how long a provider wants to be left alone.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     provider; job; job type; the day of the booking; tokens used beyond the estimate, or fewer (negative); cost
--          likewise (millionths); tokens in a minute, '0' for no limit; how long all hosts leave the provider alone (ms)
--
-- Answers  'OK'
local DAY_MS = 86400000
local provider, job, type, day = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local tokens, most = tonumber(ARGV[5]), tonumber(ARGV[7])
for _, name in ipairs({ 'llm:job:' .. job, 'llm:day:' .. day .. ':' .. type }) do
  -- What expired meanwhile is not begun anew with a part.
  if redis.call('EXISTS', key(name)) == 1 then
    redis.call('HINCRBY', key(name), 't', ARGV[5])
    redis.call('HINCRBY', key(name), 'c', ARGV[6])
  end
end
local rate = key('llm:rate:' .. provider)
local level = redis.call('HGET', rate, 't')
if most > 0 and level then
  redis.call('HSET', rate, 't', string.format('%.3f', math.min(most, tonumber(level) - tokens)))
end
local back_off = tonumber(ARGV[8])
if back_off > 0 then
  local before = tonumber(redis.call('HGET', rate, 'until') or '0')
  redis.call('HSET', rate, 'until', math.max(before, NOW + back_off))
  redis.call('PEXPIRE', rate, math.max(DAY_MS, back_off))
end
return 'OK'
