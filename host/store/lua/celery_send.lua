#!lua
-- Sends the task that runs in place of a job, and notes that in the job's record: the message is pushed if and only if the
-- record says so, and once for each task.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     id, token of the claim, packed record from now on, id of the task in it, database of the store, database of the
--          broker, list, message
--
-- Answers  'D' sent, 'A' sent before: nothing is written; 'L' the claim is another's, or the job was cancelled or is gone:
--          nothing is written
local id, token, packed, task, own, broker, list, message = unpack(ARGV)
local _, record, claim = state_of(id)
if not claim or claim_token(claim) ~= token then return 'L' end
if record.sent and record.sent.i == task then return 'A' end
-- First what may be refused, should the key be something else than a list.
if broker ~= own then redis.call('SELECT', broker) end
redis.call('LPUSH', list, message)
if broker ~= own then redis.call('SELECT', own) end
redis.call('HSET', key('st'), id, 'q' .. packed)
return 'D'
