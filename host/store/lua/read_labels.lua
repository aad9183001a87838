#!lua flags=no-writes
-- Reads what jobs are filtered by, and not what they are to work on.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     ids (at most 64: an input may be long, and is passed over)
--
-- Answers  per job: '' if there is none, else a packed map: t type, q queue, p priority, g tags, c correlation id
local answers = {}
for at, packed in ipairs(read_many('HMGET', key('jobs'), ARGV)) do
  local spec = packed and cmsgpack.unpack(packed)
  answers[at] = spec and cmsgpack.pack({ t = spec.t, q = spec.q, p = spec.p, g = spec.g, c = spec.c }) or ''
end
return answers
