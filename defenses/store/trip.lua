-- Charges and refunds of one trip, in order: the arithmetic of counters.py on levels and receipts, inside Redis.
--
-- KEYS[1]  the worker's last trip: its number, a space, its reply
-- KEYS[2]  prefix of all other keys
-- ARGV[1]  number of the trip: the same number again is the same trip, whose reply was lost
-- ARGV[2]  JSON: [[forward, account, at, receipt or "", log position or -1, [[name, amount, cap or -1, refill, as of, retried,
--          latest or -1]], the same counters as JSON, kept under the receipt]]
-- ARGV[3]  how long a receipt is kept on the queries' clock, in seconds
-- ARGV[4]  tolerance for rounding
-- ARGV[5]  JSON: [[account, name, refill, as of, amount]] that were answered since the last trip: no longer open
--
-- Returns the time (seconds, microseconds) and JSON: a verdict [kind, counter, level, levels...] for each item; the
-- levels of counters with a cap are strings, since numbers would be rounded.

local now = redis.call('TIME')
local last = redis.call('GET', KEYS[1])
if last then
  local number, reply = string.match(last, '^(%d+) (.*)$')
  if number == ARGV[1] then return {now[1], now[2], reply} end
  if tonumber(number) > tonumber(ARGV[1]) then return {now[1], now[2], '[]'} end -- given up meanwhile: it comes too late
end

local prefix, keep, slack = KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local EMPTIES = 1e300
local log = prefix .. 'log:range'
local log_end = redis.call('LLEN', log) + tonumber(redis.call('GET', log .. ':base') or '0')

-- A ledger (no cap, no refill) is kept as an integer of 64 bits, which a Lua number cannot hold; other counters as
-- "level as_of".
local function is_ledger(counter) return counter[3] < 0 and counter[4] == 0 end

local function put(hash, counter, level, as_of)
  redis.call('HSET', hash, counter[1], string.format('%.17g %.17g', level, as_of))
end

local function refilled(hash, counter)
  local level, as_of = string.match(redis.call('HGET', hash, counter[1]) or '', '^(%S+) (%S+)$')
  if not level then return 0, counter[5] end
  level, as_of = tonumber(level), tonumber(as_of)
  if counter[5] > as_of then return math.max(0, level - counter[4] * (counter[5] - as_of)), counter[5] end
  if counter[7] >= 0 and as_of > counter[7] then -- kept even if the charge is refused, so that time goes on
    as_of = counter[5]
    put(hash, counter, level, as_of)
  end
  return level, as_of
end

-- Open charges (counters.py) are kept by worker, account and counter.
local open, worker, opened = prefix .. 'open', string.sub(KEYS[1], #prefix + #'trip:' + 1), {}

local function share(account, name, refill, as_of)
  return table.concat({worker, account, name, refill, as_of}, '\n')
end

local function lasts(counter) return counter[2] > 0 and (counter[4] == 0 or counter[4] >= EMPTIES) end

local function strike(field, amount)
  local left = tonumber(redis.call('HGET', open, field) or '0') - amount
  if left > 0 then redis.call('HSET', open, field, left) else redis.call('HDEL', open, field) end
end

local function receipt_of(item)
  if item[4] == '' then return nil, 0, 0 end
  local key = prefix .. 'receipt:' .. item[2] .. ':' .. item[4]
  local at, attempts, counters = string.match(redis.call('GET', key) or '', '^(%S+) (%d+) (.*)$')
  return key, tonumber(at or 0), tonumber(attempts or 0), counters
end

local function write(key, at, attempts, counters)
  redis.call('SET', key, string.format('%.17g %d ', at, attempts) .. counters, 'EX', 2 * keep)
end

local function charge(item)
  if item[5] >= 0 and item[5] ~= log_end then return {'behind', -1, 0} end
  local hash = prefix .. 'levels:' .. item[2]
  local key, written, attempts, counters = receipt_of(item)
  local known = attempts > 0 and item[3] - written < keep
  local verdict, rises = {known and 'known' or 'charged', -1, 0}, {}
  for i, counter in ipairs(item[6]) do
    local pays = counter[6] or not known
    if is_ledger(counter) then
      if pays then rises[#rises + 1] = {counter} end
    else
      local level, as_of = refilled(hash, counter)
      if pays then
        if counter[3] >= 0 and level + counter[2] > counter[3] + slack then return {'over', i - 1, level} end
        level = level + counter[2]
        rises[#rises + 1] = {counter, level, as_of}
      end
      if counter[3] >= 0 then verdict[#verdict + 1] = string.format('%.17g', level) end
    end
  end
  for _, rise in ipairs(rises) do
    if rise[2] then put(hash, rise[1], rise[2], rise[3]) else redis.call('HINCRBY', hash, rise[1][1], rise[1][2]) end
  end
  if key then
    if known then write(key, math.min(written, item[3]), attempts + 1, counters) else write(key, item[3], 1, item[7]) end
  else
    for _, counter in ipairs(item[6]) do
      if lasts(counter) then
        local field = share(item[2], counter[1], counter[4], counter[5])
        opened[field] = (opened[field] or 0) + counter[2]
      end
    end
  end
  return verdict
end

local function refund(item)
  local hash = prefix .. 'levels:' .. item[2]
  local key, written, attempts, charged = receipt_of(item)
  local counters = item[6]
  if key then
    if attempts > 1 then write(key, written, attempts - 1, charged) end
    if attempts ~= 1 then return end
    redis.call('DEL', key)
    counters = cjson.decode(charged)
  else
    local struck = {}
    for _, counter in ipairs(counters) do
      if lasts(counter) then struck[share(item[2], counter[1], counter[4], counter[5])] = counter[2] end
    end
    for field, amount in pairs(struck) do
      if tonumber(redis.call('HGET', open, field) or '0') < amount then return end -- refunded already
    end
    for field, amount in pairs(struck) do strike(field, amount) end
  end
  for _, counter in ipairs(counters) do
    if is_ledger(counter) then
      redis.call('HINCRBY', hash, counter[1], 0 - counter[2]) -- not -0, which Redis reads as no integer
    elseif redis.call('HEXISTS', hash, counter[1]) == 1 then
      local level, as_of = refilled(hash, {counter[1], 0, -1, 0, 0, false, -1}) -- as it stands
      if not (counter[4] >= EMPTIES and counter[5] < as_of) then
        put(hash, counter, math.max(0, level - counter[2]), as_of)
      end
    end
  end
end

for _, part in ipairs(cjson.decode(ARGV[5])) do strike(share(part[1], part[2], part[3], part[4]), part[5]) end
local verdicts = {}
for i, item in ipairs(cjson.decode(ARGV[2])) do
  if item[1] then
    verdicts[i] = charge(item)
  else
    refund(item)
    verdicts[i] = {'charged', -1, 0}
  end
end
for field, amount in pairs(opened) do redis.call('HINCRBY', open, field, amount) end
local reply = cjson.encode(verdicts)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. reply, 'EX', 86400)
return {now[1], now[2], reply}
