-- The parts that all scripts share. PREFIX and the script's own flags stand before this text (scripts.py).
-- A topic is one field of the hash `topics`: an array of these values. Its messages are the stream `m:<name>`, one entry
-- `<seq>-0` each, with the value {total, at, lifetime, ts, message}; only the first four are read here.
local call = redis.call
local format = string.format
local pack = cmsgpack.pack
local EPOCH, GENERATION, SEQ, BASE, FIRST, TOTAL, CUT, OPTIONS, BEFORE, HISTORY, TTL, DEDUP, DUE, ODD =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14
local META, TOPICS, DUES, RECORDS = PREFIX .. 'meta', PREFIX .. 'topics', PREFIX .. 'due', PREFIX .. 'records'
local PUBLISHED_AT_ONCE = 262144

-- `generation` changes when all epochs are renewed, and is the epoch of each topic until somebody writes to it.
local version, generation, previous, n, identity =
  unpack(call('HMGET', META, 'version', 'generation', 'previous', 'n', 'identity'))
n = tonumber(n)

local function messages_of(name) return PREFIX .. 'm:' .. name end
local function odd_of(name) return PREFIX .. 'x:' .. name end
local function ids_of(name) return PREFIX .. 'i:' .. name end
local function order_of(name) return PREFIX .. 'o:' .. name end
local function entry(seq) return format('%d-0', seq) end

local function clock()
  local time = call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- The topic, or nil. One that nobody has written to since all epochs were renewed has the new epoch all the same.
local function load(name)
  local packed = call('HGET', TOPICS, name)
  if not packed then return nil end
  local t = cmsgpack.unpack(packed)
  if t[GENERATION] ~= generation then
    t[BEFORE] = t[GENERATION] == previous and t[EPOCH] or previous
    t[EPOCH], t[GENERATION], t[BASE] = generation, generation, t[SEQ]
  end
  return t
end

local function save(name, t) call('HSET', TOPICS, name, pack(t)) end

-- The header of a message: total, at, lifetime, ts. Nil if the stream does not have it.
local function header(name, seq)
  local found = call('XRANGE', messages_of(name), entry(seq), entry(seq))[1]
  if not found then return nil end
  local _, total, at, lifetime, ts = cmsgpack.unpack_limit(found[2][2], 4, 1)
  return total, at, lifetime, ts
end

-- The first message from `low` on that the TTL of its topic has not ended; they are in the order of their times.
local function first_alive(name, t, low, now)
  local high = t[SEQ] + 1
  if t[TTL] == 0 then return low end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local _, at = header(name, middle)
    if at and at + t[TTL] > now then high = middle else low = middle + 1 end
  end
  return low
end

-- The oldest message that a reader may see.
local function oldest(t) return math.max(t[FIRST], t[SEQ] - t[HISTORY] + 1) end

local function array(count)
  if count < 16 then return string.char(144 + count) end
  return struct.pack('>BH', 220, count)
end

local records = {}
local function add_record(record) records[#records + 1] = record end

local function add_state(name, t)
  add_record('\153'
    .. pack(0, name, t[EPOCH], t[OPTIONS], t[SEQ], t[BASE], t[FIRST], t[TOTAL] - t[CUT], t[BEFORE]))
end

-- Tell the records to all servers, in pieces; `n` counts them.
local function publish()
  local begin, size = 1, 0
  for i = 1, #records do
    size = size + #records[i]
    if size >= PUBLISHED_AT_ONCE or i == #records then
      n = n + 1
      call('PUBLISH', RECORDS, '\146' .. pack(n) .. array(i - begin + 1) .. table.concat(records, '', begin, i))
      begin, size = i + 1, 0
    end
  end
  if #records > 0 then call('HSET', META, 'n', format('%d', n)) end
end

-- Remove the messages before `first`, which is at most one above the last.
local function trim(name, t, first)
  if first > t[SEQ] then
    t[CUT] = t[TOTAL]
  else
    t[CUT] = header(name, first - 1) or t[CUT]
  end
  t[FIRST] = first
  call('XTRIM', messages_of(name), 'MINID', entry(first))
  if t[ODD] == 1 then call('ZREMRANGEBYSCORE', odd_of(name), '-inf', format('(%d', first)) end
end

-- Forget up to `most` ids whose window has ended, and those beyond the limit. Returns true if there are more.
local function forget_ids(name, now, most)
  local order, ids = order_of(name), ids_of(name)
  local excess = call('LLEN', order) - MAX_IDS
  for i = 1, most do
    local oldest_id = call('LINDEX', order, 0)
    if not oldest_id then return false end
    local ending = struct.unpack('>d', oldest_id)
    if ending > now and i > excess then return false end
    local id = string.sub(oldest_id, 9)
    local kept = call('HGET', ids, id)
    if kept and struct.unpack('>d', kept) == ending then call('HDEL', ids, id) end
    call('LPOP', order)
  end
  return true
end
