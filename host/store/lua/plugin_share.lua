#!lua
-- Makes an uploaded file what all hosts shall have of a job type, or takes that back.
--
-- KEYS[1]  head of the keys of the whole deployment
-- ARGV     job type; digest of the file, '' takes the type back; parts that the file has; what else is said of it, as
--          text. The entry is number, digest and that text, with blanks between them
--
-- Answers  the number of the entry, greater than every one before; 0: parts are missing, and nothing was written
local name, digest, parts, entry = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local entries = key('plugins')
if digest ~= '' and redis.call('HLEN', key('plugin:' .. digest)) ~= parts then return 0 end
local before = redis.call('HGET', entries, name)
local number = NOW
if before then
  local last, old = string.match(before, '^(%d+) (%x*)')
  if last then number = math.max(number, tonumber(last) + 1) end
  if old and old ~= '' and old ~= digest then redis.call('UNLINK', key('plugin:' .. old)) end
end
redis.call('HSET', entries, name, string.format('%d %s %s', number, digest, entry))
if digest ~= '' then redis.call('PERSIST', key('plugin:' .. digest)) end
return number
