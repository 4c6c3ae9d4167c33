-- Charges and refunds of one trip, in order; what meter.py does to levels and receipts, inside Redis.
--
-- KEYS[1]  the worker's last trip: its number, a space, its reply
-- KEYS[2]  prefix of all other keys
-- ARGV[1]  number of the trip: the same number again is the same trip, whose reply was lost
-- ARGV[2]  JSON: [[forward, account, at, receipt or "", seen or -1, [[name, amount, cap or -1, leak, mark, retried]],
--          the same meters as JSON, to be kept under the receipt]]
-- ARGV[3]  how long a receipt is kept on the queries' clock, in seconds
-- ARGV[4]  what rounding may lose
--
-- Returns JSON: a verdict [kind, meter, level, levels...] for each item; the levels of meters with a cap are strings,
-- since numbers would be rounded.

local last = redis.call('GET', KEYS[1])
if last then
  local number, reply = string.match(last, '^(%d+) (.*)$')
  if number == ARGV[1] then return reply end
  if tonumber(number) > tonumber(ARGV[1]) then return '[]' end -- given up meanwhile: it comes too late
end

local prefix, keep, slack = KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local EMPTIES = 1e300
local log = prefix .. 'log:range'
local log_end = redis.call('LLEN', log) + tonumber(redis.call('GET', log .. ':base') or '0')

-- A counter (no cap, no leak) is kept as an integer of 64 bits, which a Lua number cannot hold; other meters as
-- "level mark".
local function counter(meter) return meter[3] < 0 and meter[4] == 0 end

local function leaked(hash, meter)
  local level, mark = string.match(redis.call('HGET', hash, meter[1]) or '', '^(%S+) (%S+)$')
  if not level then return 0, meter[5] end
  level, mark = tonumber(level), tonumber(mark)
  if meter[5] <= mark then return level, mark end
  return math.max(0, level - meter[4] * (meter[5] - mark)), meter[5]
end

local function put(hash, meter, level, mark)
  redis.call('HSET', hash, meter[1], string.format('%.17g %.17g', level, mark))
end

local function receipt_of(item)
  if item[4] == '' then return nil, 0, 0 end
  local key = prefix .. 'receipt:' .. item[2] .. ':' .. item[4]
  local at, attempts, meters = string.match(redis.call('GET', key) or '', '^(%S+) (%d+) (.*)$')
  return key, tonumber(at or 0), tonumber(attempts or 0), meters
end

local function write(key, at, attempts, meters)
  redis.call('SET', key, string.format('%.17g %d ', at, attempts) .. meters, 'EX', 2 * keep)
end

local function charge(item)
  if item[5] >= 0 and item[5] ~= log_end then return {'behind', -1, 0} end
  local hash = prefix .. 'levels:' .. item[2]
  local key, written, attempts, meters = receipt_of(item)
  local known = attempts > 0 and item[3] - written < keep
  local verdict, rises = {known and 'known' or 'charged', -1, 0}, {}
  for i, meter in ipairs(item[6]) do
    local pays = meter[6] or not known
    if counter(meter) then
      if pays then rises[#rises + 1] = {meter} end
    else
      local level, mark = leaked(hash, meter)
      if pays then
        if meter[3] >= 0 and level + meter[2] > meter[3] + slack then return {'over', i - 1, level} end
        level = level + meter[2]
        rises[#rises + 1] = {meter, level, mark}
      end
      if meter[3] >= 0 then verdict[#verdict + 1] = string.format('%.17g', level) end
    end
  end
  for _, rise in ipairs(rises) do
    if rise[2] then put(hash, rise[1], rise[2], rise[3]) else redis.call('HINCRBY', hash, rise[1][1], rise[1][2]) end
  end
  if key then
    if known then write(key, written, attempts + 1, meters) else write(key, item[3], 1, item[7]) end
  end
  return verdict
end

local function refund(item)
  local hash = prefix .. 'levels:' .. item[2]
  local key, written, attempts, charged = receipt_of(item)
  local meters = item[6]
  if key then
    if attempts > 1 then write(key, written, attempts - 1, charged) end
    if attempts ~= 1 then return end
    redis.call('DEL', key)
    meters = cjson.decode(charged)
  end
  for _, meter in ipairs(meters) do
    if counter(meter) then
      redis.call('HINCRBY', hash, meter[1], 0 - meter[2]) -- not -0, which Redis reads as no integer
    elseif redis.call('HEXISTS', hash, meter[1]) == 1 then
      local level, mark = leaked(hash, {meter[1], 0, -1, 0, 0})
      if not (meter[4] >= EMPTIES and meter[5] < mark) then
        level, mark = leaked(hash, meter)
        put(hash, meter, math.max(0, level - meter[2]), mark)
      end
    end
  end
end

local verdicts = {}
for i, item in ipairs(cjson.decode(ARGV[2])) do
  if item[1] then
    verdicts[i] = charge(item)
  else
    refund(item)
    verdicts[i] = {'charged', -1, 0}
  end
end
local reply = cjson.encode(verdicts)
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. reply, 'EX', 86400)
return reply
