-- Replaces the records under KEYS, each if it has the version that is expected. Four of ARGV belong to each key:
--   the version that is expected   the new value   its life in milliseconds   '1': the index knows its subject
local function update(key, expected, value, life, indexed)
    local refusal, head, version = check(key, string.sub(value, 1, 20))
    if refusal then return refusal end
    -- The version that this call writes: an earlier try of it has arrived.
    local written = string.sub(value, 21, 36)
    if version == written then return written end
    if version ~= expected then return 2 end
    if indexed ~= '1' then
        -- The index is written before the record, and only when subject or absolute end change.
        local new_len = struct.unpack('<I2', string.sub(value, 45, 46))
        if new_len > 0 and (string.sub(head, 37, 46) ~= string.sub(value, 37, 46)
            or redis.call('GETRANGE', key, 50, 49 + new_len) ~= string.sub(value, 51, 50 + new_len)) then
            return 3
        end
    end
    redis.call('SET', key, value, 'PX', life)
    -- A success names what was written: no other call takes it for its own.
    return written
end
local answers = {}
for i, key in ipairs(KEYS) do
    local at = 4 * i
    local done, answer = pcall(update, key, ARGV[at - 3], ARGV[at - 2], ARGV[at - 1], ARGV[at])
    if not done and type(answer) ~= 'table' then answer = { err = tostring(answer) } end
    -- A replica refuses them all: they go to the primary together.
    if not done and string.find(answer.err, '^READONLY') then return answer end
    -- Any other error is that of one key: the others have been, or will be, written.
    answers[i] = answer
end
return answers
