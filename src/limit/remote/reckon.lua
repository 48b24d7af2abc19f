-- Counts what a node has used of some limits, and decides what it may use besides: all of it at one moment.
--
-- KEYS: a limit each, a hash. Its field `t` says how it stands. Each other field is of one count of one node: how much of
-- the limit that count has taken in all, when (microseconds), and by which message. What a node says of itself is a fact and
-- an absolute number, so that a message that comes twice, or whose answer was lost, counts once.
--
-- ARGV: the number of the message; how long places are kept for a silent node (microseconds); how many asks there are. Then
-- for each key its kind (rate, money, place), how much of it there is, in which time (microseconds), the node's field, what
-- the count has taken in all, what of that was known here last, how much is wanted ahead of use, and how long the key is kept
-- (milliseconds). Then for each ask how many limits it is about, and for each of these the index of its key and how much.
--
-- What is asked is taken of all its limits or of none; what is wanted ahead is given as far as it is there.
--
-- Answers: for each ask 0, or which of its limits is short. For each key what the count has taken in all now, how much of
-- that is ahead of use, and how the limit stands: microseconds until all of a rate is there again, or how much is taken.

local time = redis.call('TIME')
-- From 2023 on, so that fractions of microseconds are kept.
local now = (tonumber(time[1]) - 1700000000) * 1000000 + tonumber(time[2])
local message, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local at = 4

local function next_argument()
  at = at + 1
  return ARGV[at - 1]
end

local function parse(text)
  local taken, when, by = string.match(text or '', '^(%S+) (%S+) (%S+)$')
  return tonumber(taken), tonumber(when), tonumber(by)
end

-- How each limit stands, by its key: `full` of a rate, `total` of any other. Two counts of a node may be of one limit.
local limits = {}

local function read_rate(m)
  local known = redis.call('HMGET', m.key, 't', m.field)
  local l = limits[m.key]
  if not l then
    -- A clock that was set back must not close a limit for longer than its debts can be.
    l = { full = math.min(math.max(tonumber(known[1]) or now, now), now + 10 * m.per) }
  end
  local taken, when, by = parse(known[2])
  local more = m.own - (taken or m.known)
  if more > 0 then
    l.full = l.full + more * m.span
  elseif more < 0 then
    -- What has come back by itself since does not come back twice.
    l.full = math.max(now, l.full - math.max(0, -more * m.span - (now - (when or now))))
  end
  return l, by
end

-- Forgets counts that are not heard of any more, where there are many. Of a rate they say nothing after twice its time.
local function prune(m)
  if redis.call('HLEN', m.key) < 256 then return end
  local fields = redis.call('HGETALL', m.key)
  for i = 1, #fields, 2 do
    local taken, when = parse(fields[i + 1])
    if taken and when + 2 * m.per < now then redis.call('HDEL', m.key, fields[i]) end
  end
end

local function read_money(m)
  local known = redis.call('HMGET', m.key, 't', m.field)
  local l = limits[m.key] or { total = tonumber(known[1]) or 0 }
  local taken, _, by = parse(known[2])
  l.total = math.max(0, l.total + m.own - (taken or 0))
  return l, by
end

local function read_place(m)
  local fields, sum, before, by = redis.call('HGETALL', m.key), 0, 0, nil
  for i = 1, #fields, 2 do
    local taken, when, last = parse(fields[i + 1])
    if fields[i] == m.field then
      by = last
    end
    if taken and when + lease > now then
      sum = sum + taken
      if fields[i] == m.field then before = taken end
    else
      redis.call('HDEL', m.key, fields[i])
    end
  end
  local l = limits[m.key] or { total = sum }
  l.total = l.total + m.own - before
  return l, by
end

-- How much there is; half a microsecond makes up for roundings.
local function room(m)
  if m.kind == 'rate' then return math.max(0, (now + m.per + 0.5 - m.limit.full) / m.span) end
  return m.most - m.limit.total
end

local function take(m, amount)
  m.own = m.own + amount
  if m.kind == 'rate' then
    m.limit.full = m.limit.full + amount * m.span
  else
    m.limit.total = m.limit.total + amount
  end
end

local function level(m)
  if m.kind == 'rate' then return math.ceil(m.limit.full - now) end
  return m.limit.total
end

local function number(value)
  return string.format('%.0f', value)
end

local readers = { rate = read_rate, money = read_money, place = read_place }
local meters = {}
for i, key in ipairs(KEYS) do
  local m = { key = key, kind = next_argument() }
  m.most, m.per = tonumber(next_argument()), tonumber(next_argument())
  m.span = m.per / m.most
  m.field = next_argument()
  m.own, m.known = tonumber(next_argument()), tonumber(next_argument())
  m.want, m.ttl = tonumber(next_argument()), tonumber(next_argument())
  local by
  m.limit, by = readers[m.kind](m)
  limits[key] = m.limit
  if by and by >= message then
    return redis.error_reply('LATE a later message was here before')
  end
  meters[i] = m
end

local answers = {}
for ask = 1, tonumber(ARGV[3]) do
  local parts, short = {}, 0
  local count = tonumber(next_argument())
  for part = 1, count do
    local m, amount = meters[tonumber(next_argument())], tonumber(next_argument())
    parts[part] = { m, amount }
    if short == 0 and room(m) < amount then
      short = part
      m.is_short = true
    end
  end
  if short == 0 then
    for _, part in ipairs(parts) do take(part[1], part[2]) end
  end
  answers[ask] = short
end

local states = {}
for _, m in ipairs(meters) do
  -- Nothing is put aside of what somebody has been refused.
  local ahead = m.is_short and 0 or math.max(0, math.min(m.want, math.floor(room(m))))
  take(m, ahead)
  local count = number(m.own) .. ' ' .. number(now) .. ' ' .. number(message)
  if m.kind == 'rate' then
    redis.call('HSET', m.key, 't', string.format('%.3f', m.limit.full), m.field, count)
    prune(m)
    redis.call('PEXPIRE', m.key, number(m.ttl + math.max(0, m.limit.full - now) / 1000))
  else
    if m.kind == 'money' then redis.call('HSET', m.key, 't', number(m.limit.total)) end
    redis.call('HSET', m.key, m.field, count)
    redis.call('PEXPIRE', m.key, number(m.ttl))
  end
  states[#states + 1] = { number(m.own), number(ahead), number(level(m)) }
end
return { answers, states }
