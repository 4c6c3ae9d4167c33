-- Lists the open charges (counters.py) of workers that made no trip for a while, and refunds them if told so.
--
-- KEYS[1]  prefix of all keys
-- ARGV[1]  the least number of seconds without a trip
-- ARGV[2]  'refund' or ''
--
-- Returns {worker, seconds without a trip, account, counter, refill, as of, amount} of each, all of them strings.

local found, entries = redis.call('HGETALL', KEYS[1] .. 'open'), {}
for i = 1, #found, 2 do
  local field, amount = found[i], found[i + 1]
  local worker, account, name, refill, as_of = string.match(field, '^(.*)\n(.*)\n(.*)\n(.*)\n(.*)$')
  local idle = 86400 - math.max(0, redis.call('PTTL', KEYS[1] .. 'trip:' .. worker)) / 1000
  if idle >= tonumber(ARGV[1]) then
    entries[#entries + 1] = {worker, tostring(idle), account, name, refill, as_of, amount}
    if ARGV[2] == 'refund' then
      local hash = KEYS[1] .. 'levels:' .. account
      local level, since = string.match(redis.call('HGET', hash, name) or '', '^(%S+) (%S+)$')
      if not level then
        redis.call('HINCRBY', hash, name, 0 - amount)
      elseif tonumber(refill) == 0 or tonumber(as_of) >= tonumber(since) then
        redis.call('HSET', hash, name, string.format('%.17g ', math.max(0, level - amount)) .. since)
      end
      redis.call('HDEL', KEYS[1] .. 'open', field)
    end
  end
end
return entries
