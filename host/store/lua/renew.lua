#!lua flags=allow-oom
-- Registers a worker or renews its lease, and takes back jobs of workers whose lease ran out, at most 1,000.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     worker, length of the lease in ms, 1 to register (under an id never used before) or 0 to renew,
--          crashes after which a job is poisonous
--
-- Answers  1 if the lease holds, else 0; the time in ms; jobs taken back; the jobs of this worker that shall pause
-- Events   the state of every job taken back; wake
local worker = ARGV[1]
local lease = redis.call('ZSCORE', key('workers'), worker)
-- A lease of 0 is condemned: its jobs are being taken.
local alive = ARGV[3] == '1' or (lease and tonumber(lease) > 0)
if alive then redis.call('ZADD', key('workers'), string.format('%.0f', NOW + ARGV[2]), worker) end

local taken, dead, any = 0, {}, false
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', key('workers'), '-inf', NOW, 'LIMIT', 0, 100)) do
  redis.call('ZADD', key('workers'), 0, gone)
  dead[gone], any = true, true
end
if any then
  -- One look at all claims serves every dead worker; one that has too many is finished by later calls.
  local cursor = '0'
  repeat
    local page = redis.call('HSCAN', key('claims'), cursor, 'COUNT', 500)
    cursor = page[1]
    for at = 1, #page[2], 2 do
      local id, claim = page[2][at], page[2][at + 1]
      if taken < 1000 and dead[claim_worker(claim)] and redis.call('HEXISTS', key('claims'), id) == 1 then
        take_back(id, claim, true, tonumber(ARGV[4]))
        taken = taken + 1
      end
    end
  until cursor == '0' or taken >= 1000
  if taken < 1000 then
    for gone in pairs(dead) do redis.call('ZREM', key('workers'), gone) end
  end
end

local answers = { alive and 1 or 0, string.format('%.0f', NOW), taken }
if alive and redis.call('EXISTS', key('ctl')) == 1 then
  local ids = redis.call('HKEYS', key('ctl'))
  local claims = read_many('HMGET', key('claims'), ids)
  for at, id in ipairs(ids) do
    if claims[at] and claim_worker(claims[at]) == worker then answers[#answers + 1] = id end
  end
end
flush()
return answers
