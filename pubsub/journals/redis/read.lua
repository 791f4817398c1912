-- A page of messages. ARGV: name, epoch, after, until, limit, bytes. Returns {time, seq, value, seq, value, …}; an epoch
-- that is another, or a topic that is gone, is nil. Messages that have expired are left out.
local name, epoch = ARGV[1], ARGV[2]
local after, last, limit, room = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local t = load(name)
if not t or t[EPOCH] ~= epoch then return nil end
local now = clock()
local page = {format('%.6f', now)}
after = math.max(after, first_alive(name, t, oldest(t), now) - 1)
last = math.min(last, t[SEQ])
local checked = 0
while after < last and limit > 0 and room > 0 and (checked < 2000 or #page == 1) do
  local count = math.min(limit, 16)
  local found = call('XRANGE', messages_of(name), entry(after + 1), entry(last), 'COUNT', count)
  for _, each in ipairs(found) do
    local seq, value = tonumber(string.match(each[1], '^%d+')), each[2][2]
    local _, _, at, lifetime = cmsgpack.unpack_limit(value, 3, 1)
    after, checked = seq, checked + 1
    if (lifetime == 0 or at + lifetime > now) and room > 0 then
      page[#page + 1] = format('%d', seq)
      page[#page + 1] = value
      limit, room = limit - 1, room - #value
    end
  end
  if #found < count then break end
end
return page
