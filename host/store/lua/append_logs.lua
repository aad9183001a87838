#!lua
-- Appends log lines of jobs that exist. The oldest beyond the limit are dropped, and counted.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     lines kept per job, then for each job: id, number of lines, the lines
--
-- Answers  how many jobs were written
-- Events   the present state of each of them
local keep = tonumber(ARGV[1])
local at, last, written = 2, #ARGV, 0
while at <= last do
  local id, number = ARGV[at], tonumber(ARGV[at + 1])
  if redis.call('HEXISTS', key('jobs'), id) == 1 then
    local name, lines = key('log:' .. id), {}
    for index = 1, number do lines[index] = ARGV[at + 1 + index] end
    write_many('RPUSH', name, lines)
    local over = redis.call('LLEN', name) - keep
    if over > 0 then
      redis.call('LTRIM', name, over, -1)
      redis.call('HINCRBY', key('dropped'), id, over)
    end
    local letter = 'r'
    if redis.call('HEXISTS', key('claims'), id) == 0 then
      local stored = redis.call('HGET', key('st'), id)
      letter = stored and string.sub(stored, 1, 1) or 'q'
    end
    event(id, letter)
    written = written + 1
  end
  at = at + 2 + number
end
flush()
return written
