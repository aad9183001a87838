#!lua
-- Does what entries of the outbox ask for, each wholly and once: an entry that is gone was settled by another host.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     database of the store, of the broker, of the results, then for each entry: its id, '' or the key of a result
--          which says that all was done in an earlier run of the job where it is a SUCCESS, the number of its operations,
--          and for each of those five values:
--            'P' list, message:                      a message to the end of a queue
--            'R' key, text, seconds:                 a result, unless that of a success is there; its channel is told
--            'S' key, text, seconds:                 a value that expires
--            'X' key:                                forgets a key
--            'C' key of the group, member, "index:seconds:task id", context: a part of a chord; the last one adds an
--                entry J
--            'Q' letter, context, body:              another entry of the outbox
--            'D' list, reason, text:                 to the dead list
--
-- Answers  per entry: 1 settled, 0 it was gone
-- Events   results on the channels of their keys; '' on the channel of the outbox for each new entry
local own, broker, results = ARGV[1], ARGV[2], ARGV[3]
local current = own
local function at(database)
  if database ~= current then
    redis.call('SELECT', database)
    current = database
  end
end
-- A result begins with its status, here and in what Celery writes.
local function is_success(name)
  return string.find(redis.call('GETRANGE', name, 0, 40), '^{"status": ?"SUCCESS"') ~= nil
end

-- Whoever brings the last part makes the body start. Celery sends the size behind all messages but the last.
local function part(group, member, place, context)
  local index, seconds, task = string.match(place, '^(%-?%d+):(%d+):(.*)$')
  at(results)
  if redis.call('GET', group .. '.c') == 'done' then return end
  -- The set by which workers of Celery 5.7 know what they have counted.
  if member ~= '' and redis.call('SADD', group .. '.d', task .. ':' .. index) == 1 then
    redis.call('ZADD', group .. '.j', index, member)
  end
  local size = redis.call('GET', group .. '.s')
  for _, name in ipairs({ '.j', '.t', '.s', '.d' }) do redis.call('EXPIRE', group .. name, seconds) end
  if not size then return end
  local wanted = tonumber(size) + tonumber(redis.call('GET', group .. '.t') or 0)
  if redis.call('ZCARD', group .. '.j') < wanted then return end
  -- The same claim keeps a worker of Celery from starting it too.
  if not redis.call('SET', group .. '.c', 'done', 'NX', 'EX', seconds) then return end
  at(own)
  tell_celery('', 'J', context, '', '')
end

local cursor, answers = 4, {}
while cursor <= #ARGV do
  local id, guard, operations = ARGV[cursor], ARGV[cursor + 1], tonumber(ARGV[cursor + 2])
  cursor = cursor + 3
  at(own)
  local done = redis.call('XDEL', key('celery'), id)
  answers[#answers + 1] = done
  if done == 1 and guard ~= '' then
    at(results)
    if is_success(guard) then done = 0 end
  end
  for _ = 1, operations do
    local verb, a, b, c, d = ARGV[cursor], ARGV[cursor + 1], ARGV[cursor + 2], ARGV[cursor + 3], ARGV[cursor + 4]
    cursor = cursor + 5
    if done == 1 then
      if verb == 'P' then
        at(broker)
        redis.call('LPUSH', a, b)
      elseif verb == 'R' then
        at(results)
        if not is_success(a) then
          redis.call('SETEX', a, c, b)
          redis.call('PUBLISH', a, b)
        end
      elseif verb == 'S' then
        at(results)
        redis.call('SETEX', a, c, b)
      elseif verb == 'X' then
        at(results)
        redis.call('DEL', a)
      elseif verb == 'C' then
        part(a, b, c, d)
      elseif verb == 'Q' then
        at(own)
        tell_celery('', a, b, c, '')
      elseif verb == 'D' then
        at(own)
        redis.call('LPUSH', key('celery:dead'), cmsgpack.pack({ k = a, w = b, t = NOW, m = c }))
      end
    end
  end
end
at(own)
flush()
return answers
