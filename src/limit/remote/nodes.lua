-- Says that a node is there, or that it leaves, and counts those that are.
--
-- KEYS: the nodes, sorted by when they were heard last. ARGV: the node; how long it is counted without being heard
-- (milliseconds), or 0 where it leaves.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local keep = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if keep > 0 then
  redis.call('ZADD', KEYS[1], now + keep, ARGV[1])
  redis.call('PEXPIRE', KEYS[1], keep * 2)
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return redis.call('ZCARD', KEYS[1])
