#!lua flags=allow-oom
-- Forgets results and output records of ended jobs, which stay otherwise. Nodes of workflows keep them.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     only of jobs that ended so many ms ago, ids
--
-- Answers  how many jobs lost theirs
local forgotten, states = 0, {}
local results = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local stored = redis.call('HGET', key('st'), id)
  local record = stored and string.find(stored, '^[SFC]') and cmsgpack.unpack(string.sub(stored, 2))
  local over = record and not record.expired and (record.ended_ms or 0) + ARGV[1] < NOW
  local spec = over and spec_of(id)
  if spec and not is_node(spec.pa) then
    record.expired = true
    states[#states + 1], states[#states + 2] = id, string.sub(stored, 1, 1) .. cmsgpack.pack(record)
    results[#results + 1] = id
    redis.call('UNLINK', key('out:' .. id))
    discard(id)
    forgotten = forgotten + 1
  end
end
write_many('HSET', key('st'), states)
write_many('HDEL', key('res'), results)
return forgotten
