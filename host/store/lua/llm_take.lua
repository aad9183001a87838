#!lua flags=allow-oom
-- Books the estimate of a request to a language model, if limits and budgets leave room for it: all, or nothing.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     provider; job; job type; tokens; cost (millionths); and the limits, each '0' for none: requests in a minute,
--          tokens in a minute, tokens of the job, cost of the job, tokens of the type in a day, cost of the type in a
--          day
--
-- Answers  { 'now', day } booked, on this day since the Unix epoch
--          { 'wait', ms } not before so many milliseconds
--          { 'job', 0 }   the job has used up what it may
--          { 'day', 0 }   the type has used up what it may on this day
local JOB_MS = 604800000
local DAY_MS = 86400000
local provider, job, type = ARGV[1], ARGV[2], ARGV[3]
local tokens, cost = tonumber(ARGV[4]), tonumber(ARGV[5])
local requests_max, tokens_max = tonumber(ARGV[6]), tonumber(ARGV[7])
local day = math.floor(NOW / DAY_MS)

local function spent(name)
  local values = redis.call('HMGET', key(name), 't', 'c')
  return tonumber(values[1] or '0'), tonumber(values[2] or '0')
end
local function over(name, most_tokens, most_cost)
  if most_tokens == 0 and most_cost == 0 then return false end
  local t, c = spent(name)
  return (most_tokens > 0 and t + tokens > most_tokens) or (most_cost > 0 and c + cost > most_cost)
end
local of_job, of_day = 'llm:job:' .. job, 'llm:day:' .. day .. ':' .. type
if over(of_job, tonumber(ARGV[8]), tonumber(ARGV[9])) then return { 'job', 0 } end
if over(of_day, tonumber(ARGV[10]), tonumber(ARGV[11])) then return { 'day', 0 } end

-- A bucket holds what a minute allows and fills again all the time. A request larger than that needs it full.
local rate = key('llm:rate:' .. provider)
local state = redis.call('HMGET', rate, 'r', 't', 'at', 'until')
local passed = NOW - tonumber(state[3] or '0')
local wait = math.max(0, tonumber(state[4] or '0') - NOW)
local function room(level, most, needed)
  local full = math.min(most, tonumber(level or most) + passed * most / 60000)
  needed = math.min(needed, most)
  if full < needed then wait = math.max(wait, math.ceil((needed - full) * 60000 / most)) end
  return full - needed
end
local requests = requests_max > 0 and room(state[1], requests_max, 1)
local left = tokens_max > 0 and room(state[2], tokens_max, tokens)
if wait > 0 then return { 'wait', wait } end

if requests then redis.call('HSET', rate, 'r', string.format('%.6f', requests)) end
if left then redis.call('HSET', rate, 't', string.format('%.3f', left)) end
redis.call('HSET', rate, 'at', NOW)
redis.call('PEXPIRE', rate, DAY_MS)
for name, ttl in pairs({ [of_job] = JOB_MS, [of_day] = 2 * DAY_MS }) do
  redis.call('HINCRBY', key(name), 't', tokens)
  redis.call('HINCRBY', key(name), 'c', cost)
  redis.call('PEXPIRE', key(name), ttl)
end
return { 'now', day }
