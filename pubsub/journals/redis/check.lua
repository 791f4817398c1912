-- A server looks before it enters. ARGV: version, part of the topics, and the commands that the scripts need.
-- It stands without the common part, so that a missing right is told by name.
local expected, part = ARGV[1], ARGV[2]
local channels = {PUBLISH = true, SUBSCRIBE = true}
for i = 3, #ARGV do
  if not redis.acl_check_cmd(ARGV[i], PREFIX .. (channels[ARGV[i]] and 'records' or 'meta')) then
    return redis.error_reply('NOPERM this user has no permissions to run the ' .. ARGV[i] .. ' command')
  end
end
local version, found = unpack(redis.call('HMGET', PREFIX .. 'meta', 'version', 'part'))
if version and version ~= expected then return redis.error_reply('VERSION ' .. version) end
if found and found ~= part then return redis.error_reply('PART ' .. found) end
return 1
