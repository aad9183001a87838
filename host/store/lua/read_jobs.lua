#!lua flags=no-writes
-- Reads jobs, all at the same moment. A script and no transaction, because a server whose memory is full refuses even
-- reads in a transaction.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     ids
--
-- Answers  five lists with a value or nil per id: packed spec, state letter + packed record, result, claim, control
local answers = {}
for at, name in ipairs({ 'jobs', 'st', 'res', 'claims', 'ctl' }) do
  answers[at] = read_many('HMGET', key(name), ARGV)
end
return answers
