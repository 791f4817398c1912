-- A topic of another journal, in slices. Nobody sees it before the last one. ARGV: step, name, and what the step needs.
local step, name = ARGV[1], ARGV[2]
if not generation then return redis.error_reply('LOST the journal is gone') end
if call('HEXISTS', TOPICS, name) == 1 then return redis.error_reply('EXISTS the topic exists') end

local steps = {}

-- What an earlier copy has left.
function steps.begin()
  call('UNLINK', messages_of(name), odd_of(name), ids_of(name), order_of(name))
end

-- For each message: seq, value, and its end if that is not the one that the topic gives it.
function steps.messages()
  for i = 3, #ARGV, 3 do
    call('XADD', messages_of(name), ARGV[i] .. '-0', 'm', ARGV[i + 1])
    if ARGV[i + 2] ~= '' then call('ZADD', odd_of(name), ARGV[i], ARGV[i] .. ':' .. ARGV[i + 2]) end
  end
end

-- For each id: itself, and its window's end and its seq.
function steps.ids()
  for i = 3, #ARGV, 2 do
    call('HSET', ids_of(name), ARGV[i], ARGV[i + 1])
    call('RPUSH', order_of(name), string.sub(ARGV[i + 1], 1, 8) .. ARGV[i])
  end
end

-- Make it a topic. Epoch, seq, first, total, options, history, ttl, dedup, number of ids.
function steps.finish()
  local epoch, options = ARGV[3], ARGV[7]
  local numbers = {}
  for i = 4, 11 do numbers[i] = tonumber(ARGV[i]) end
  local seq, first, total, history, ttl, dedup, ids =
    numbers[4], numbers[5], numbers[6], numbers[8], numbers[9], numbers[10], numbers[11]
  if call('XLEN', messages_of(name)) ~= seq - first + 1 or call('HLEN', ids_of(name)) ~= ids then
    return redis.error_reply('CHANGED another copy writes the same topic')
  end
  local odd = call('EXISTS', odd_of(name))
  local t = {epoch, generation, seq, 0, first, total, 0, options, '', history, ttl, dedup, 0, odd}
  if ttl > 0 or dedup > 0 then
    t[DUE] = 1
    call('ZADD', DUES, format('%.3f', clock() + 1), name)
  end
  save(name, t)
  add_state(name, t)
  publish()
end

return steps[step]()
