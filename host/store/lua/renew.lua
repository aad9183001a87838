#!lua flags=allow-oom
-- Registers a worker or renews its lease, and takes back jobs of workers whose lease ran out: at most 100, after a
-- look at about 1,000 claims. The next call goes on where this one stopped.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     worker, length of the lease in ms, 1 to register (under an id that holds no jobs) or 0 to renew, crashes
--          after which a job is poisonous
--
-- Answers  1 if the lease holds, else 0; the time in ms; jobs taken back; 1 if another call is needed for workers
--          that are gone, else 0; the jobs of this worker that shall pause
-- Events   the state of every job taken back; wake
local worker = ARGV[1]
local TAKEN_MAX, PAGES_MAX = 100, 2
local lease = redis.call('ZSCORE', key('workers'), worker)
-- A lease of 0 is condemned: its jobs are being taken, and until that is done nothing is claimed under its name.
local alive = lease and tonumber(lease) > 0 or not lease and ARGV[3] == '1'
if alive then redis.call('ZADD', key('workers'), string.format('%.0f', NOW + ARGV[2]), worker) end

local taken, dead, more = 0, {}, 0
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '-inf', NOW, 'LIMIT', 0, 100)) do
  redis.call('ZADD', key('workers'), 0, gone)
  dead[#dead + 1] = gone
  dead[gone] = true
end
if #dead > 0 then
  -- One pass over all claims serves every worker that was gone when it began; the others have the next one.
  local cursor, pages, whole = redis.call('HGET', key('reap'), 'cursor'), 0, true
  if not cursor then
    cursor = '0'
    for _, gone in ipairs(dead) do redis.call('HSET', key('reap'), ':' .. gone, 1) end
  end
  repeat
    local page = redis.call('HSCAN', key('claims'), cursor, 'COUNT', 500)
    for at = 1, #page[2], 2 do
      local id, claim = page[2][at], page[2][at + 1]
      if dead[claim_worker(claim)] and redis.call('HEXISTS', key('claims'), id) == 1 then
        if taken == TAKEN_MAX then
          -- The same page again.
          whole = false
          break
        end
        take_back(id, claim, true, tonumber(ARGV[4]))
        taken = taken + 1
      end
    end
    if whole then cursor, pages = page[1], pages + 1 end
  until not whole or cursor == '0' or pages == PAGES_MAX
  if whole and cursor == '0' then
    for _, field in ipairs(redis.call('HKEYS', key('reap'))) do
      if string.sub(field, 1, 1) == ':' then redis.call('ZREM', key('workers'), string.sub(field, 2)) end
    end
    redis.call('DEL', key('reap'))
  else
    redis.call('HSET', key('reap'), 'cursor', cursor)
  end
  local left = redis.call('ZRANGEBYSCORE', key('workers'), '-inf', NOW, 'LIMIT', 0, 1)
  if #left > 0 then more = 1 end
end

local answers = { alive and 1 or 0, string.format('%.0f', NOW), taken, more }
if alive and redis.call('EXISTS', key('ctl')) == 1 then
  local ids = redis.call('HKEYS', key('ctl'))
  local claims = read_many('HMGET', key('claims'), ids)
  for at, id in ipairs(ids) do
    if claims[at] and claim_worker(claims[at]) == worker then answers[#answers + 1] = id end
  end
end
flush()
return answers
