#!lua flags=allow-oom
-- Takes jobs from a worker that left or crashed, or the jobs of one claim whose answer was lost: a portion of all
-- claims per call.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     worker, '' for all its jobs (it can never claim again) or the token of the claim (only jobs that were
--          not committed since; the claim takes none later), 1 if that counts as a crash, crashes after which a
--          job is poisonous, cursor (first '0')
--
-- Answers  the next cursor, '0' at the end; jobs taken back
-- Events   the state of every job taken back; wake
local worker, token, crashed, cursor = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[5]
if cursor == '0' then
  if token == '' then
    redis.call('ZADD', key('workers'), 0, worker)
  else
    -- The claim itself may still be on its way.
    redis.call('SET', key('token:' .. token), 1, 'EX', 3600)
  end
end
local taken = 0
local page = redis.call('HSCAN', key('claims'), cursor, 'COUNT', 500)
for at = 1, #page[2], 2 do
  local id, claim = page[2][at], page[2][at + 1]
  local wanted = claim_worker(claim) == worker
    and (token == '' or string.sub(claim, 1, #token + 4) == token .. ':-1:')
  if wanted and redis.call('HEXISTS', key('claims'), id) == 1 then
    take_back(id, claim, crashed, tonumber(ARGV[4]))
    taken = taken + 1
  end
end
if page[1] == '0' and token == '' then redis.call('ZREM', key('workers'), worker) end
flush()
return { page[1], taken }
