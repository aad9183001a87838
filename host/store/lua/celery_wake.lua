#!lua
-- Tasks of Celery have ended: the jobs that sleep until they look after them again do so at once.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     for each task: id of its job, its own id
--
-- Answers  per task: 'D' its job is queued now, 'L' its job looks after it just now, and may sleep again; '' its job is
--          paused, queued, at another attempt, has ended or is gone: nothing is written
-- Events   q for every job woken; wake
local answers = {}
for at = 1, #ARGV, 2 do
  local id, answer = ARGV[at], ''
  local letter, record = state_of(id)
  if record.sent and record.sent.i == ARGV[at + 1] then
    if letter == 'r' then answer = 'L' end
    local spec = letter == 's' and spec_of(id)
    if spec then
      wake(id, spec, 's', record, true)
      answer = 'D'
    end
  end
  answers[#answers + 1] = answer
end
flush()
return answers
