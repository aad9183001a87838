#!lua
-- Moves jobs that have not ended to another queue or another priority. A running job goes there when it leaves its
-- worker.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     queue or '' (stays), priority or '' (stays), ids (at most 200)
--
-- Answers  per job: 'D' + letter of the state that it is in: moved, or there already; 'R' + letter: refused, it has
--          ended; 'M': no such job
-- Events   wake if a line grew
local to_queue, to_priority = ARGV[1], tonumber(ARGV[2])
local answers = {}
for at = 3, #ARGV do
  local id = ARGV[at]
  local packed = redis.call('HGET', key('jobs'), id)
  local letter = packed and state_of(id)
  if not packed then
    answers[at - 2] = 'M'
  elseif letter == 'S' or letter == 'F' or letter == 'C' then
    answers[at - 2] = 'R' .. letter
  else
    answers[at - 2] = 'D' .. letter
    local spec = cmsgpack.unpack(packed)
    local before, after = spec.q or spec.t, to_queue ~= '' and to_queue or spec.q or spec.t
    local priority = to_priority or spec.p or 0
    if after ~= before or priority ~= (spec.p or 0) then
      spec.q = after ~= spec.t and after or nil
      spec.p = priority > 0 and priority or nil
      -- At once, because the same id may be named twice.
      redis.call('HSET', key('jobs'), id, cmsgpack.pack(spec))
      local key_part = spec.k and '/' .. spec.k or ''
      redis.call('HSET', key('moved'), id, after .. key_part .. '|' .. priority)
      if after ~= before then
        if before ~= spec.t then gather(removed, 'xq:' .. before, id) end
        if after ~= spec.t then
          local list = list_of(added, 'xq:' .. after)
          list[#list + 1], list[#list + 2] = 0, id
        end
      end
      if letter == 'q' then
        depth(before .. key_part, -1)
        depth(after .. key_part, 1)
        enqueue(after .. key_part, spec.t, priority, id, false)
      end
    end
  end
end
flush()
return answers
