#!lua
-- Appends log lines of jobs that exist. The oldest beyond the limits are dropped, and counted.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     lines kept per job, 1 if the jobs are on this server or 0 if they are known to exist elsewhere
--          (note_logs.lua), then for each job: id, number of lines, the lines
--
-- Answers  how many jobs were written
-- Events   the present state of each of them, where the jobs are on this server
-- Of each job: a hostile one must not fill the server with long lines.
local BYTES_MAX = 1048576
local keep, here = tonumber(ARGV[1]), ARGV[2] == '1'
local at, last, written = 3, #ARGV, 0
while at <= last do
  local id, number = ARGV[at], tonumber(ARGV[at + 1])
  if not here or redis.call('HEXISTS', key('jobs'), id) == 1 then
    local name, lines = key('log:' .. id), {}
    local bytes = 0
    for index = 1, number do
      lines[index] = ARGV[at + 1 + index]
      bytes = bytes + #lines[index]
    end
    write_many('RPUSH', name, lines)
    bytes = bytes + tonumber(redis.call('HGET', key('logbytes'), id) or 0)
    local over, dropped = redis.call('LLEN', name) - keep, 0
    while over > 0 or bytes > BYTES_MAX do
      local gone = redis.call('LPOP', name, math.max(1, math.min(over, PIECE)))
      if not gone then break end
      for _, line in ipairs(gone) do bytes = bytes - #line end
      over, dropped = over - #gone, dropped + #gone
    end
    redis.call('HSET', key('logbytes'), id, bytes)
    if dropped > 0 then redis.call('HINCRBY', key('dropped'), id, dropped) end
    if here then event(id, letter_now(id)) end
    written = written + 1
  end
  at = at + 2 + number
end
flush()
return written
