-- Returns 1 if any message after `after` and up to `until` has expired or is gone, else 0; nil for a topic that is gone
-- or of another epoch. ARGV: name, epoch, after, until.
local name = ARGV[1]
local after, last = tonumber(ARGV[3]), tonumber(ARGV[4])
local t = load(name)
if not t or t[EPOCH] ~= ARGV[2] then return nil end
if after >= last then return 0 end
local now = clock()
if first_alive(name, t, oldest(t), now) > after + 1 then return 1 end
if t[ODD] == 1 then
  for _, member in ipairs(call('ZRANGE', odd_of(name), after + 1, last, 'BYSCORE')) do
    if tonumber(string.match(member, ':(.*)')) <= now then return 1 end
  end
end
return 0
