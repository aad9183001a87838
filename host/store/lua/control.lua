#!lua flags=allow-oom
-- What an operator asks of one job. Asking for what is the case already changes nothing.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id, 'pause', 'resume', 'restart', 'retry' or 'cancel', step of the checkpoint to restart from or '', channel on
--          which workers listen, who asks or ''
--
-- Answers  'D' + letter: the job is in this state now; 'P': it runs and pauses at the end of its step;
--          'R' + letter: refused in this state; 'U': its unique key is another job's by now; 'N': no such
--          checkpoint; 'M': no such job
-- Events   the new state; wake; "worker verb id token" on the channel where a worker holds the job
local id, verb, from, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local who = ARGV[5] ~= '' and ARGV[5] or nil
local spec = spec_of(id)
if not spec then return 'M' end
local letter, record, claim = state_of(id)
local is_ended = letter == 'S' or letter == 'F' or letter == 'C'

local function tell(what) redis.call('PUBLISH', channel, claim_worker(claim) .. ' ' .. what .. ' ' .. id .. ' ' .. claim_token(claim)) end

-- The state that a paused job goes back to, if what it was parked for has not come meanwhile.
local function still_parked(spec, record)
  local letter, due = record.parked, record.not_before_ms
  -- A workflow looks again by itself.
  if not letter or is_native(spec.t) then return nil end
  if letter == 'w' and has_come(id, record) or due and due <= NOW then return nil end
  return letter
end

if verb == 'pause' then
  if letter == 'p' then return 'Dp' end
  if is_ended then return 'R' .. letter end
  if letter == 'r' then
    redis.call('HSET', key('ctl'), id, who and 'pause ' .. who or 'pause')
    tell('pause')
    spread(id, spec.t, 'pause')
    return 'P'
  end
  redis.call('ZREM', key('due'), id)
  -- What it is parked for stays in the record: a job that is resumed does not go on before that.
  if letter ~= 'q' then record.parked = letter end
  note_past(record, 'pause', who)
  put_state(id, 'p', record)
  if spec.ce then tell_celery(id, 'p', spec.ce, '', cmsgpack.pack(record)) end
  move(spec.t, spec.lane, id, letter, 'p')
  spread(id, spec.t, 'pause')
  event(id, 'p')
  flush()
  return 'Dp'
end

if verb == 'resume' then
  if letter == 'q' then return 'Dq' end
  if letter == 'r' then
    if redis.call('HDEL', key('ctl'), id) == 1 then
      tell('resume')
      spread(id, spec.t, 'resume')
    end
    return 'Dr'
  end
  if letter == 's' or letter == 'w' then return 'D' .. letter end
  if letter ~= 'p' then return 'R' .. letter end
  local parked = still_parked(spec, record)
  note_past(record, 'resume', who)
  if parked then
    record.parked = nil
    put_state(id, parked, record)
    move(spec.t, spec.lane, id, 'p', parked)
    -- With the next commit the time that a checkpoint is kept begins anew.
    redis.call('PERSIST', key('cp:' .. id))
    if record.not_before_ms then due_at(id, record.not_before_ms) end
    event(id, parked)
  else
    -- A job that had begun goes on before those that have not.
    wake(id, spec, 'p', record, (record.step or 0) > 0)
  end
  spread(id, spec.t, 'resume')
  flush()
  return 'D' .. (parked or 'q')
end

if verb == 'restart' or verb == 'retry' then
  if letter ~= 'F' and (verb == 'retry' or letter ~= 'p' and not is_ended) then return 'R' .. letter end
  local checkpoints, headers, chosen = redis.call('LRANGE', key('cp:' .. id), 0, -1), {}, nil
  for at, checkpoint in ipairs(checkpoints) do
    headers[at] = cmsgpack.unpack(string.sub(checkpoint, 7, 6 + tonumber(string.sub(checkpoint, 1, 6))))
    if not chosen and from ~= '' and headers[at].step == tonumber(from) then chosen = at end
  end
  if from ~= '' and not chosen then return 'N' end
  -- A retry goes on from the newest one, where there is one.
  if verb == 'retry' and #checkpoints > 0 then chosen = 1 end
  if spec.u and not spec.ut then
    local holder = redis.call('HGET', key('uniq'), spec.u)
    if holder and holder ~= id then return 'U' .. holder end
    redis.call('HSET', key('uniq'), spec.u, id)
  end
  revoke(record)
  local again, outputs, kept, ttl_ms = { run = (record.run or 1) + 1 }, 0, {}, redis.call('PTTL', key('cp:' .. id))
  again.failures, again.replays, again.past = record.failures, record.replays, record.past
  -- Of a run that succeeded in its first stay nothing was noted.
  if letter == 'S' and not again.past and record.started_ms then
    again.past = { {
      a = record.ended_ms or NOW, w = 'succeeded', r = record.run or 1, f = record.started_ms, b = record.host,
      v = record.version,
    } }
  end
  note_past(again, verb, who)
  if chosen then
    local header = headers[chosen]
    outputs = header.outputs
    again.step, again.outputs, again.progress = header.step, outputs, header.progress
    again.digest, again.version = header.plugin_digest, header.plugin_version
    again.committed_ms, again.children = header.created_ms, {}
    local kids = key('kids:' .. id)
    for at, child in ipairs(record.children or {}) do
      if at <= header.children then
        again.children[at] = child
      else
        -- What was spawned after the checkpoint is not waited for.
        if redis.call('HGET', kids, child) == '' then redis.call('HINCRBY', kids, 'n', -1) end
        redis.call('HDEL', kids, child)
      end
    end
    local length = tonumber(string.sub(checkpoints[chosen], 1, 6))
    header.run = again.run
    local packed = cmsgpack.pack(header)
    kept[1] = string.format('%06d', #packed) .. packed .. string.sub(checkpoints[chosen], 7 + length)
  else
    redis.call('DEL', key('sig:' .. id), key('kids:' .. id), key('ended:' .. id))
  end
  local objects
  if outputs == 0 then
    redis.call('DEL', key('out:' .. id))
  else
    redis.call('LTRIM', key('out:' .. id), 0, outputs - 1)
    if redis.call('EXISTS', key('obj:' .. id)) == 1 then
      objects = {}
      for _, value in ipairs(redis.call('LRANGE', key('out:' .. id), 0, -1)) do
        local path = object_of(value)
        if path then objects[path] = true end
      end
    end
  end
  discard(id, objects)
  -- A checkpoint whose output records are gone cannot be gone back to.
  local most = #checkpoints
  for at, checkpoint in ipairs(checkpoints) do
    if headers[at].outputs <= outputs and at ~= chosen and #kept < most then kept[#kept + 1] = checkpoint end
  end
  redis.call('DEL', key('cp:' .. id))
  if #kept > 0 then
    write_many('RPUSH', key('cp:' .. id), kept)
    if ttl_ms > 0 then redis.call('PEXPIRE', key('cp:' .. id), ttl_ms) end
  end
  redis.call('HDEL', key('res'), id)
  wake(id, spec, letter, again, false)
  flush()
  return 'Dq'
end

if letter == 'C' then return 'DC' end
if is_ended then return 'R' .. letter end
if who then note_past(record, 'cancel', who) end
cancel_one(id, spec, letter, record, claim, channel)
flush()
return 'DC'
