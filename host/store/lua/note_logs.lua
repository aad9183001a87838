#!lua
-- Notes that log lines of jobs lie on another server, before they are written there; or tells that they are there.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     'note' or 'tell', ids
--
-- Answers  note: the ids of the jobs that exist, the only ones that may be written. tell: nothing
-- Events   tell: the present state of each job
local exist = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  if redis.call('HEXISTS', key('jobs'), id) == 1 then
    exist[#exist + 1] = id
    if ARGV[1] == 'tell' then event(id, letter_now(id)) end
  end
end
if ARGV[1] == 'note' then
  write_many('SADD', key('logged'), exist)
  return exist
end
flush()
return {}
