#!lua
-- Reads the messages of Celery queues that are next, in the order in which they are served. Nothing changes.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     database of the store, database of the broker, most messages, then the lists in the order in which they are
--          served
--
-- Answers  for each message: the number of its list, counted from 1, and its text
local left, answers = tonumber(ARGV[3]), {}
if ARGV[2] ~= ARGV[1] then redis.call('SELECT', ARGV[2]) end
for number = 1, #ARGV - 3 do
  if left > 0 then
    local items = redis.call('LRANGE', ARGV[number + 3], -left, -1)
    left = left - #items
    -- Producers push on the left: the oldest is the last.
    for at = #items, 1, -1 do
      answers[#answers + 1] = number
      answers[#answers + 1] = items[at]
    end
  end
end
return answers
