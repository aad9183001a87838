#!lua flags=allow-oom
-- Puts claimed jobs back into their lines. A worker asks for it that does not hold them: the server lost what the
-- worker wrote after it claimed them, or the claim could not be read.
--
-- KEYS[1]  head of the partition's keys
-- ARGV     for each job: id, token of its claim
--
-- Answers  how many were taken; a job whose claim is another's by now is left alone
-- Events   the state of every job taken back; wake
local taken = 0
for at = 1, #ARGV, 2 do
  local id = ARGV[at]
  local claim = redis.call('HGET', key('claims'), id)
  if claim and claim_token(claim) == ARGV[at + 1] then
    take_back(id, claim, false, 0)
    taken = taken + 1
  end
end
flush()
return taken
