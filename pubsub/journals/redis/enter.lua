-- A server connects. ARGV: version, server, identity of the instance, token for a new generation.
-- Returns {generation, the one before, n, number of the connection, time}. Another identity than before: all epochs are renewed.
local expected, server, current, token = unpack(ARGV)
if not version then
  generation, previous, n = token, '', 0
  call('HSET', META, 'version', expected, 'generation', token, 'previous', '', 'n', 0, 'identity', current)
elseif version ~= expected then
  return redis.error_reply('VERSION ' .. version)
elseif identity ~= current then
  call('HSET', META, 'generation', token, 'previous', generation, 'identity', current)
  previous, generation = generation, token
  add_record('\146' .. pack(5, token))
  publish()
end
local session = PREFIX .. 's:' .. server
local connection = call('HINCRBY', session, 'connection', 1)
call('EXPIRE', session, SESSION_SECONDS)
return {generation, previous, n, connection, format('%.6f', clock())}
