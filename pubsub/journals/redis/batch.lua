-- A batch of operations. ARGV[1]: {server, connection, slot, number, epoch for lost tails, operations}; then all messages.
-- Returns {number, n, outcomes}: outcomes may be told once the records up to n have come.
local server, connection, slot, number, new_epoch, operations = unpack(cmsgpack.unpack(ARGV[1]))
if not generation then return redis.error_reply('LOST the journal is gone') end
local session = PREFIX .. 's:' .. server
local known = call('HMGET', session, 'connection', slot)
if tonumber(known[1]) ~= connection then return redis.error_reply('STALE another connection of this server') end
local head = '\147' .. pack(number)
if known[2] and string.sub(known[2], 1, #head) == head then return known[2] end
local now = clock()
local used = 1  -- arguments, so far

local function is_here(name, epoch)
  local t = load(name)
  if t and t[EPOCH] == epoch then return t end
end

local function drop_messages(name)
  call('UNLINK', messages_of(name), odd_of(name))
end

-- The ids of messages in lower case, and what is known of each: false, or its window's end and its seq.
local function find_ids(name, before, count)
  local ids = {}
  for i = 1, count do ids[i] = string.lower(string.sub(ARGV[before + i], 4, 39)) end
  return ids, call('HMGET', ids_of(name), unpack(ids))
end

-- Give each message its place, and change nothing. Returns the outcomes, the arguments that are taken, and ids by seq; or
-- a conflict.
local function place(name, t, op, before)
  local together, count, expected = op[6], op[7], op[9]
  local outcomes, taken, seq, new = {}, {}, t[SEQ], {}
  local ids, seen
  if t[DEDUP] > 0 and count > 0 then ids, seen = find_ids(name, before, count) end
  for i = 1, count do
    local first = ids and new[ids[i]]
    if ids and not first and seen[i] then
      local ending, place = struct.unpack('>dd', seen[i])
      if ending > now then first = place end
    end
    if first then
      outcomes[i] = -first
    elseif expected[i] and expected[i] >= 0 and expected[i] ~= seq then
      if together then return {{seq, i - 1}} end
      outcomes[i] = {seq}
    else
      seq = seq + 1
      outcomes[i] = seq
      taken[#taken + 1] = i
      if ids then new[ids[i]] = seq end
    end
  end
  return outcomes, taken, new
end

local function remember(name, t, new, first, last)
  local by_seq = {}
  for id, seq in pairs(new) do by_seq[seq] = id end
  local ending = now + t[DEDUP]
  local pairs_, order = {}, {}
  for seq = first, last do
    local id = by_seq[seq]
    pairs_[#pairs_ + 1] = id
    pairs_[#pairs_ + 1] = struct.pack('>dd', ending, seq)
    order[#order + 1] = struct.pack('>d', ending) .. id
  end
  call('HSET', ids_of(name), unpack(pairs_))
  call('RPUSH', order_of(name), unpack(order))
  forget_ids(name, now, 100 + #order)
end

local function keep(name, t, op, before, count, taken)
  local ts, lifetimes = op[5], op[8]
  local messages, total = messages_of(name), t[TOTAL]
  local plain = pack(now, 0, ts)
  for k = 1, count do
    local i = taken and taken[k] or k
    local blob, seq, lifetime, rest = ARGV[before + i], t[SEQ] + k, lifetimes[i] or 0, plain
    if lifetime > 0 then
      rest = pack(now, lifetime, ts)
      if t[TTL] == 0 or lifetime < t[TTL] then
        t[ODD] = 1
        call('ZADD', odd_of(name), seq, format('%d:%.6f', seq, now + lifetime))
      end
    end
    total = total + #blob
    call('XADD', messages, entry(seq), 'm', '\149' .. pack(total) .. rest .. blob)
  end
  t[TOTAL] = total
end

local function trim_history(name, t)
  local excess = t[SEQ] - t[FIRST] + 1 - t[HISTORY]
  if excess > math.min(1000, math.max(64, t[HISTORY] / 8)) then
    trim(name, t, t[FIRST] + math.min(excess, 2000))
  end
end

-- Remove what has expired, faster than messages are added: a beat removes only so many.
local function trim_expired(name, t, before)
  if t[TTL] > 0 and math.floor(before / 128) < math.floor(t[SEQ] / 128) then
    local first = math.min(first_alive(name, t, t[FIRST], now), t[FIRST] + 512 + 2 * (t[SEQ] - before))
    if first >= t[FIRST] + 64 then trim(name, t, first) end
  end
end

local function mark_due(name, t)
  local shortest = math.min(t[TTL] > 0 and t[TTL] or math.huge, t[DEDUP] > 0 and t[DEDUP] or math.huge)
  t[DUE] = 1
  call('ZADD', DUES, format('%.3f', now + math.max(1, shortest * 1.05)), name)
end

-- The messages behind the argument `before`: all, or those that are taken.
local function messages_between(before, count, taken)
  if not taken then return table.concat(ARGV, '', before + 1, before + count) end
  local some = {}
  for k = 1, count do some[k] = ARGV[before + taken[k]] end
  return table.concat(some)
end

local function append(op)
  local name, before, asked, expected = op[2], used, op[7], op[9]
  used = used + asked
  local t = load(name)
  if not t then return -1 end
  local lost = t[EPOCH] == op[3] and t[SEQ] < op[4]
  if lost then
    t[BEFORE], t[EPOCH], t[BASE] = t[EPOCH], new_epoch, t[SEQ]
    add_state(name, t)
  end
  local count, outcomes, taken, new = asked, {}, nil, nil
  if t[DEDUP] > 0 or #expected > 0 then  -- otherwise all are taken
    outcomes, taken, new = place(name, t, op, before)
    count = taken and #taken or 0
  end
  if count == 0 then
    if lost then save(name, t) end
    return outcomes
  end
  local first = t[SEQ] + 1
  if t[HISTORY] > 0 then keep(name, t, op, before, count, taken) end
  t[SEQ] = t[SEQ] + count
  if t[HISTORY] == 0 then
    t[FIRST] = t[SEQ] + 1
  else
    trim_history(name, t)
    trim_expired(name, t, first - 1)
  end
  if t[DEDUP] > 0 then remember(name, t, new, first, t[SEQ]) end
  if t[DUE] == 0 and (t[TTL] > 0 or t[DEDUP] > 0) then mark_due(name, t) end
  save(name, t)
  add_record('\153' .. pack(1, name, t[EPOCH], first, op[5], now, t[FIRST], t[TOTAL] - t[CUT])
    .. array(count) .. messages_between(before, count, taken))
  if count == asked then return first end
  return outcomes
end

local function create(op)
  local _, name, epoch, options, most, history, ttl, dedup = unpack(op)
  if call('HEXISTS', TOPICS, name) == 1 then return -1 end
  if most > 0 and call('HLEN', TOPICS) >= most then return -2 end
  call('UNLINK', messages_of(name), odd_of(name), ids_of(name), order_of(name))
  local t = {epoch, generation, 0, 0, 1, 0, 0, options, '', history, ttl, dedup, 0, 0}
  save(name, t)
  add_state(name, t)
  return 0
end

local function delete(op)
  local name = op[2]
  local t = is_here(name, op[3])
  if not t then return -1 end
  if op[4] >= 0 and op[4] ~= t[SEQ] then return {t[SEQ]} end
  drop_messages(name)
  call('UNLINK', ids_of(name), order_of(name))
  call('HDEL', TOPICS, name)
  call('ZREM', DUES, name)
  add_record('\147' .. pack(2, name, t[EPOCH]))
  return 0
end

local function purge(op)
  local name = op[2]
  local t = is_here(name, op[3])
  if not t then return -1 end
  local first = first_alive(name, t, oldest(t), now)
  local count = t[SEQ] - first + 1
  if t[ODD] == 1 then
    for _, member in ipairs(call('ZRANGE', odd_of(name), first, '+inf', 'BYSCORE')) do
      if tonumber(string.match(member, ':(.*)')) <= now then count = count - 1 end
    end
  end
  drop_messages(name)
  t[FIRST], t[CUT], t[ODD] = t[SEQ] + 1, t[TOTAL], 0
  save(name, t)
  add_record('\148' .. pack(3, name, t[EPOCH], t[SEQ]))
  return count
end

local function tell(op)
  add_record(op[2])
  return 0
end

local deciders = {append, create, delete, purge, tell}
local outcomes = {}
for i = 1, #operations do
  outcomes[i] = deciders[operations[i][1]](operations[i])
end
publish()
local reply = head .. pack(n, outcomes)
if #outcomes > 0 then call('HSET', session, slot, reply) end
return reply
