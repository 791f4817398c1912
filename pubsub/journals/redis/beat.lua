-- Every few seconds from each server: its session goes on, a push must come back to it, and a slice of what has expired
-- is removed. ARGV: server, connection.
if not generation then return redis.error_reply('LOST the journal is gone') end
local session = PREFIX .. 's:' .. ARGV[1]
if call('HGET', session, 'connection') ~= ARGV[2] then
  return redis.error_reply('STALE another connection of this server')
end
call('EXPIRE', session, SESSION_SECONDS)
local now = clock()

-- Returns the time of the next clean-up, nil if there is nothing to clean up.
local function clean(name, t)
  local more, again = false, math.huge
  if t[TTL] > 0 and t[FIRST] <= t[SEQ] then
    local first = math.min(first_alive(name, t, t[FIRST], now), t[FIRST] + CLEANED_AT_ONCE)
    more = first == t[FIRST] + CLEANED_AT_ONCE
    if first > t[FIRST] then
      trim(name, t, first)
      add_state(name, t)
    end
    if t[FIRST] <= t[SEQ] then again = t[TTL] end
  end
  if t[DEDUP] > 0 then
    more = forget_ids(name, now, CLEANED_AT_ONCE / 10) or more
    if call('LLEN', order_of(name)) > 0 then again = math.min(again, t[DEDUP]) end
  end
  if more then return now end
  if again < math.huge then return now + math.max(1, again / 20) end
end

for _, name in ipairs(call('ZRANGE', DUES, '-inf', format('%.3f', now), 'BYSCORE', 'LIMIT', 0, 10)) do
  local t = load(name)
  local next_time = t and clean(name, t)
  if next_time then
    call('ZADD', DUES, format('%.3f', next_time), name)
  else
    call('ZREM', DUES, name)
    if t then t[DUE] = 0 end
  end
  if t then save(name, t) end
end
publish()
call('PUBLISH', PREFIX .. 'canary:' .. ARGV[1], '\147' .. pack(n, generation, now))
return n
