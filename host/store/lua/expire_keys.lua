#!lua flags=allow-oom
-- Forgets queues and job types that hold nothing.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     for each: 'q' + name of a queue, or 't' + job type; at most 200
--
-- Answers  how many were forgotten
local forgotten = 0
for _, one in ipairs(ARGV) do
  local kind, name = string.sub(one, 1, 1), string.sub(one, 2)
  if kind == 'q' then
    if redis.call('HGET', key('depth'), name) == '0' then forgotten = forgotten + redis.call('HDEL', key('depth'), name) end
  else
    local fields, jobs = {}, 0
    for letter in string.gmatch('qrswpSFC', '.') do fields[#fields + 1] = name .. '|' .. letter end
    for _, number in ipairs(redis.call('HMGET', key('counts'), unpack(fields))) do jobs = jobs + math.abs(tonumber(number or 0)) end
    if jobs == 0 then
      redis.call('HDEL', key('counts'), unpack(fields))
      forgotten = forgotten + redis.call('SREM', key('types'), name)
    end
  end
end
return forgotten
