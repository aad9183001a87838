#!lua flags=allow-oom
-- Forgets jobs with everything kept for them.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     channel on which workers listen; '' to forget them in any state, or only those that ended so many ms
--          ago; ids
--
-- Answers  how many were forgotten
-- Events   C for every job that had not ended; "worker drop id token" on the channel where a worker held it
local channel, age_ms = ARGV[1], ARGV[2]
local ids, forgotten, orphans = {}, 0, {}
for at = 3, #ARGV do ids[at - 2] = ARGV[at] end
local gone, ran, claims = {}, {}, {}
for _, id in ipairs(ids) do
  local spec = spec_of(id)
  local letter, record, claim = state_of(id)
  local is_ended = letter == 'S' or letter == 'F' or letter == 'C'
  if spec and (age_ms == '' or (is_ended and (record.ended_ms or 0) + age_ms < NOW and not is_node(spec.pa))) then
    forgotten = forgotten + 1
    gone[#gone + 1] = id
    if claim then
      ran[#ran + 1], claims[#claims + 1] = id, claim
      redis.call('PUBLISH', channel, claim_worker(claim) .. ' drop ' .. id .. ' ' .. claim_token(claim))
    end
    index_remove(letter, spec.t, id)
    if spec.q ~= spec.t then gather(removed, 'xq:' .. spec.q, id) end
    if spec.c then gather(removed, 'corr:' .. spec.c, id) end
    for _, tag in ipairs(spec.g or {}) do gather(removed, 'tag:' .. tag, id) end
    if letter == 's' or letter == 'w' then gather(removed, 'due', id) end
    count(spec.t, letter, -1)
    if letter == 'q' then depth(spec.lane, -1) end
    release_unique(spec.u, id)
    discard(id)
    redis.call('UNLINK', key('cp:' .. id), key('out:' .. id), key('log:' .. id), key('sig:' .. id), key('kids:' .. id),
      key('ended:' .. id), key('graph:' .. id))
    if not is_ended then
      revoke(record)
      event(id, 'C')
      if spec.ce then tell_celery(id, 'C', spec.ce, '', cmsgpack.pack(record)) end
      if spec.pa then orphans[#orphans + 1] = { spec.pa, id } end
    end
  end
end
for _, name in ipairs({ 'jobs', 'st', 'res', 'claims', 'ctl', 'dropped', 'logbytes', 'moved' }) do write_many('HDEL', key(name), gone) end
-- What lies on another server is taken away from there (objects.rs).
if #gone > 0 and exists('logged') then
  local waste, now = {}, string.format('%.0f', NOW)
  for at, logged in ipairs(read_many('SMISMEMBER', key('logged'), gone)) do
    if logged == 1 then
      waste[#waste + 1] = now
      waste[#waste + 1] = 'log:' .. gone[at]
    end
  end
  write_many('ZADD', key('waste'), waste)
  write_many('SREM', key('logged'), gone)
end
release_many(ran, claims)
for _, one in ipairs(orphans) do tell_parent(one[1], one[2], 'Fthe job was deleted') end
flush()
return forgotten
