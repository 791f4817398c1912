-- A server connects. ARGV: version, server, identity of the instance, token for a new generation, part of the topics,
-- "all" or "lost", and what the server knew before: identity of the instance and number of the last push, or '' and 0.
-- "same" if a run of Redis that has another replication id than before has the same data, else "other".
-- Returns {generation, the one before, n, number of the connection, time}.
local expected, server, current, token, part, renew, known, seen, data = unpack(ARGV)

local function run_of(each) return string.match(each, '^[^:]*') end

-- With `mixed`, some messages of the present epochs may have numbers that lost ones had: servers take none of them over.
local function renew_all(mixed)
  previous, generation = mixed and token .. '-' or generation, token
  call('HSET', META, 'generation', generation, 'previous', previous)
  add_record('\146' .. pack(5, token))
  publish()
end

if not version then
  generation, previous, n = token, '', 0
  call('HSET', META, 'version', expected, 'generation', token, 'previous', '', 'n', 0, 'identity', current,
    'part', part)
elseif version ~= expected then
  return redis.error_reply('VERSION ' .. version)
elseif call('HGET', META, 'part') ~= part then
  return redis.error_reply('PART ' .. call('HGET', META, 'part'))
else
  if identity ~= current then  -- a restart or a failover; n tells how much of the data is left
    call('HSET', META, 'identity', current, 'former', identity, 'left', format('%d', n))
    local goes_on = data == 'same' and run_of(identity) == run_of(current)
    if renew == 'all' and not goes_on then renew_all() end
  end
  if renew == 'lost' and known ~= '' and known ~= current then
    local former = call('HMGET', META, 'former', 'left')
    local same = known == former[1]
    if not same or tonumber(seen) > tonumber(former[2]) then renew_all(not same or n > tonumber(former[2])) end
  end
end
local session = PREFIX .. 's:' .. server
local connection = call('HINCRBY', session, 'connection', 1)
call('EXPIRE', session, SESSION_SECONDS)
return {generation, previous, n, connection, format('%.6f', clock())}
