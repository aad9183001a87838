#!lua
-- Revokes Celery tasks: those that come later never become jobs, jobs that have not begun are cancelled.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     channel on which workers listen, how long it is remembered (ms), '1' to cancel jobs that run too or '0',
--          task ids
--
-- Answers  how many jobs were cancelled
-- Events   C for every job cancelled; "worker drop id token" on the channel where a worker held it; '' on the channel of
--          the outbox
local channel, kept_ms, running = ARGV[1], ARGV[2], ARGV[3] == '1'
-- Jobs of one task that are looked at.
local JOBS_MAX = 100
local cancelled = 0
redis.call('ZREMRANGEBYSCORE', key('celery:revoked'), '-inf', NOW)
for at = 4, #ARGV do
  redis.call('ZADD', key('celery:revoked'), string.format('%.0f', NOW + kept_ms), ARGV[at])
  for _, id in ipairs(redis.call('ZRANGE', key('corr:' .. ARGV[at]), -JOBS_MAX, -1)) do
    local spec = spec_of(id)
    if spec and spec.ce then
      local letter, record, claim = state_of(id)
      local is_ended = letter == 'S' or letter == 'F' or letter == 'C'
      -- As with Celery, what has begun goes on unless it is to be terminated.
      local begun = letter == 'r' or (record.step or 0) > 0
      if not is_ended and (running or not begun) then
        cancel_one(id, spec, letter, record, claim, channel)
        flush()
        cancelled = cancelled + 1
      end
    end
  end
end
flush()
return cancelled
