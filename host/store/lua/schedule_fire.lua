#!lua
-- Fires schedules, each wholly or not at all: only if it stands as it did when its times were looked at, so that
-- each planned time fires once whoever asks. At most 40 jobs a call.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     channel on which workers listen, then for each schedule 12 values and its times:
--            name, rev, next planned time (ms) or '', planned time that waits (ms) or '' (three that must be as they
--            are), next planned time from now on (ms) or '', when that is due (ms) or '', times that were missed,
--            what is wrong with it or '', overlap policy, most jobs ever or '', the job made last (it must be that one)
--            behind a letter: H look here, E it has ended or is gone, S it has not ended, or '' if there is none; number
--            of times,
--            and per time: planned (ms), letters: M somebody asked for it now, O the job is owed, and six values of
--            the job (create.lua; all are '' where the schedule makes none)
--
-- Answers  per schedule: 'L' if it stands otherwise; else a letter per time: C job created, O job owed: noted to be
--          created by the caller (schedule_owed.lua), A to be done by the caller, S left out because of the job made
--          last, W waits for its end, X left out because the schedule has ended
-- Events   the state of every job created or cancelled; wake; "worker drop id token" on the channel for a job cancelled

-- How often is looked whether the job has ended that a time waits for.
local WAIT_MS = 250
local channel = ARGV[1]

-- A job that is there and has not ended.
local function standing(id)
  local spec = id and spec_of(id)
  if not spec then return end
  local letter, record, claim = state_of(id)
  if letter == 'S' or letter == 'F' or letter == 'C' then return end
  return spec, letter, record, claim
end

local function fire(name, state, policy, most, last, at)
  local planned, id, type = tonumber(ARGV[at]), ARGV[at + 2], ARGV[at + 5]
  local waits, cancelled = state.wait == planned, ''
  if most and state.fired >= most then return 'X' end
  if id == '' then
    state.last, state.fired = NOW, state.fired + 1
    return 'A'
  end
  if policy ~= 'allow' then
    local spec, letter, record, claim = standing(state.job)
    -- One that is owed, or that lies in another partition.
    local far = state.job and (last == 'S' .. state.job or redis.call('HEXISTS', key('schedo'), state.job) == 1)
    if far and policy == 'cancel_running' then
      cancelled = state.job
    elseif spec and policy == 'cancel_running' then
      -- It may have been created by this call.
      flush()
      cancel_one(state.job, spec, letter, record, claim, channel)
      flush()
    elseif (spec or far) and policy == 'queue_one' and (waits or not state.wait) then
      if not waits then schedule_history(name, { p = planned, f = NOW, w = 'waiting' }) end
      state.wait = planned
      return 'W'
    elseif spec or far then
      schedule_history(name, { p = planned, f = NOW, w = 'overlap' })
      return 'S'
    end
  end
  if waits then state.wait = nil end
  if string.find(ARGV[at + 1], 'O', 1, true) then
    local owed = { name, ARGV[at], cancelled, state.job or '' }
    for value = at + 2, at + 7 do owed[#owed + 1] = ARGV[value] end
    redis.call('HSET', key('schedo'), id, cmsgpack.pack(owed))
    state.job, state.last, state.fired = id, NOW, state.fired + 1
    return 'O'
  end
  if redis.call('HEXISTS', key('jobs'), id) == 0 then
    local extra = ARGV[at + 7] ~= '' and cmsgpack.unpack(ARGV[at + 7]) or nil
    local letter = create_one(id, ARGV[at + 3], ARGV[at + 4], type, ARGV[at + 6], extra and due_of(extra), extra)
    redis.call('SADD', key('types'), type)
    event(id, letter)
  end
  state.job, state.last, state.fired = id, NOW, state.fired + 1
  schedule_history(name, { p = planned, f = NOW, j = id })
  return 'C'
end

local answers, at = {}, 2
while at <= #ARGV do
  local name, last, times, first = ARGV[at], ARGV[at + 10], tonumber(ARGV[at + 11]), at + 12
  local state = schedule_state(name)
  local asked = times > 0 and string.find(ARGV[first + 1], 'M', 1, true)
  if not state or state.rev ~= tonumber(ARGV[at + 1]) or state.next ~= tonumber(ARGV[at + 2])
    or state.wait ~= tonumber(ARGV[at + 3]) or (state.paused and not asked)
    or string.sub(last, 2) ~= (state.job or '') then
    answers[#answers + 1] = 'L'
  else
    local most, letters = tonumber(ARGV[at + 9]), {}
    for time = 1, times do letters[time] = fire(name, state, ARGV[at + 8], most, last, first + 8 * (time - 1)) end
    local missed, due = tonumber(ARGV[at + 6]), tonumber(ARGV[at + 5])
    if missed > 0 then
      schedule_history(name, { p = state.next, f = NOW, w = 'missed', n = missed })
      state.missed = state.missed + missed
    end
    state.next = tonumber(ARGV[at + 4])
    if most and state.fired >= most then state.next, state.wait, due = nil, nil, nil end
    state.error = ARGV[at + 7] ~= '' and ARGV[at + 7] or nil
    if state.wait then due = math.min(due or NOW + WAIT_MS, NOW + WAIT_MS) end
    put_schedule_state(name, state, due)
    answers[#answers + 1] = table.concat(letters)
  end
  at = first + 8 * times
end
flush()
return answers
