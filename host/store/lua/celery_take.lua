#!lua
-- Takes messages off Celery queues. What each becomes is written by the same call: a job (create.lua, which stands in
-- front of this text as the function `create`), an entry of the outbox, an entry of the dead list, or a message in
-- another queue. A message that is not there any more is left alone: another host has it.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     channel on which workers listen, database of the store, database of the broker, how far behind the end of a
--          list the messages may stand, then for each message 14 values:
--            its list, its text, its task id or '', 'J' job, 'E' entry of the outbox, 'D' dead list and outbox,
--            'F' another queue;
--            context for the outbox or ''; letter of the entry; its packed body;
--            D: why (a code); F: the other list; J: the id, the packed spec, the lane
--          and for a J in the next place: type, priority, further values (create.lua). Others have '' there.
--
-- Answers  per message: what it became (J, E, D, F), 'R' revoked before it came, 'L' dead because its queue is full,
--          'M' it is not there
-- Events   those of create.lua; '' on the channel of the outbox
local channel, own, broker, depth_max = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local WIDTH = 14
local total = (#ARGV - 4) / WIDTH
local function value(number, at) return ARGV[4 + (number - 1) * WIDTH + at] end
local function select_db(database)
  if broker ~= own then redis.call('SELECT', database) end
end

-- What stands at the end of each list now.
local windows, names = {}, {}
select_db(broker)
for number = 1, total do
  local name = value(number, 1)
  if not windows[name] then
    local items, there = redis.call('LRANGE', name, -depth_max, -1), {}
    for _, item in ipairs(items) do there[item] = (there[item] or 0) + 1 end
    windows[name] = { items = items, there = there, gone = {} }
    names[#names + 1] = name
  end
end
select_db(own)

local answers, made, numbers, forwards, dead, entries = {}, { channel }, {}, {}, {}, {}
for number = 1, total do
  local window, text, kind = windows[value(number, 1)], value(number, 2), value(number, 4)
  if (window.there[text] or 0) == 0 then
    answers[number] = 'M'
  else
    window.there[text] = window.there[text] - 1
    window.gone[text] = (window.gone[text] or 0) + 1
    local task = value(number, 3)
    local until_ms = task ~= '' and redis.call('ZSCORE', key('celery:revoked'), task)
    answers[number] = kind
    if until_ms and tonumber(until_ms) > NOW and kind ~= 'F' then
      answers[number] = 'R'
      entries[#entries + 1] = { 'V', value(number, 5), '' }
    elseif kind == 'J' then
      numbers[#numbers + 1] = number
      for at = 9, 14 do made[#made + 1] = value(number, at) end
    elseif kind == 'F' then
      forwards[#forwards + 1] = { value(number, 8), value(number, 7) }
    else
      entries[#entries + 1] = { value(number, 6), value(number, 5), value(number, 7) }
      if kind == 'D' then dead[#dead + 1] = number end
    end
  end
end

if #numbers > 0 then
  local created = create(made)
  for at, number in ipairs(numbers) do
    if created[at + 1] == 'L' then
      answers[number] = 'L'
      dead[#dead + 1] = number
      entries[#entries + 1] = { 'L', value(number, 5), '' }
    end
  end
end
for _, number in ipairs(dead) do
  local why = answers[number] == 'L' and 'limit-reached' or value(number, 8)
  redis.call('LPUSH', key('celery:dead'), cmsgpack.pack({ k = value(number, 1), w = why, t = NOW, m = value(number, 2) }))
end
for _, entry in ipairs(entries) do tell_celery('', entry[1], entry[2], entry[3], '') end
flush()

select_db(broker)
for _, name in ipairs(names) do
  local window, kept, taken = windows[name], {}, false
  for _, item in ipairs(window.items) do
    if (window.gone[item] or 0) > 0 then
      window.gone[item] = window.gone[item] - 1
      taken = true
    else
      kept[#kept + 1] = item
    end
  end
  if taken then
    redis.call('LTRIM', name, 0, -(#window.items + 1))
    for at = 1, #kept, PIECE do redis.call('RPUSH', name, unpack(kept, at, math.min(at + PIECE - 1, #kept))) end
  end
end
for _, one in ipairs(forwards) do redis.call('LPUSH', one[1], one[2]) end
select_db(own)
return answers
