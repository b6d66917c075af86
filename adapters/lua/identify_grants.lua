-- The book of a bot's IDENTIFY grants: one hash, one call a question, Redis' own clock.
--   max, total, remaining, resets_at, noted_at   what Discord said of its limits, less what was granted since
--   asking_until                                 until when somebody asks Discord
--   free:<bucket>                                from when on the bucket may be granted again
--   held:<bucket>                                who has a grant that is neither spent nor given back
--   run                                          of Redis, when this was last asked
--   granted                                      how many grants there were; who asks says how many it knows of
-- ARGV[1] is what to do; times are milliseconds.

local book = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function number(field)
    return tonumber(redis.call('HGET', book, field) or nil)
end

-- A book that Redis had from its disk, from another Redis or from whoever put it back may be older than the last grants;
-- and a clock that was set forward has passed intervals that are not over.
local function doubt(interval)
    for bucket = 0, (number('max') or 0) - 1 do
        if (number('free:' .. bucket) or 0) < now + interval then
            redis.call('HSET', book, 'free:' .. bucket, now + interval)
        end
    end
    redis.call('HDEL', book, 'noted_at') -- Discord is asked anew how many starts are left
end

local function ask(shard_id, holder, interval, hold, refresh, asking, jump, known_grants, expected)
    local info = redis.pcall('INFO', 'server') -- who asks may not be allowed to
    local run = type(info) == 'string' and info:match('run_id:(%w+)') or ''
    if redis.call('HGET', book, 'run') ~= run or (number('granted') or 0) < known_grants
        or (expected > 0 and now > expected + jump) then
        doubt(interval)
        redis.call('HSET', book, 'run', run, 'granted', math.max(number('granted') or 0, known_grants))
    end
    local noted_at, resets_at = number('noted_at'), number('resets_at')
    local known = noted_at and now >= noted_at and now < noted_at + refresh and now < resets_at
    if not known then
        local asking_until = number('asking_until')
        if asking_until and now < asking_until and asking_until <= now + asking then
            return {'later', math.min(asking_until - now, 100), 'limits'}
        end
        redis.call('HSET', book, 'asking_until', now + asking)
        return {'unknown'}
    end
    local total = number('total')
    if number('remaining') <= math.min(50, math.floor(total / 20)) then
        return {'later', resets_at - now, 'budget'}
    end
    local bucket = shard_id % number('max')
    local free = number('free:' .. bucket) or 0
    if free > now + hold + interval then -- the clock was set back
        free = now + interval
        redis.call('HSET', book, 'free:' .. bucket, free)
    end
    if now < free then
        if redis.call('HEXISTS', book, 'held:' .. bucket) == 1 then
            free = math.min(free, now + interval) -- once it is spent, it is an interval from then
        end
        return {'later', free - now, 'bucket'}
    end
    redis.call('HSET', book, 'free:' .. bucket, now + hold + interval, 'held:' .. bucket, holder)
    redis.call('HINCRBY', book, 'remaining', -1)
    redis.call('HINCRBY', book, 'granted', 1)
    return {'granted', bucket}
end

local function note(total, remaining, reset_after, max, interval)
    -- A book that is new, or of other buckets, does not know who identified a moment ago. When nobody did in the
    -- whole window, Discord says so.
    local blind = number('max') ~= max and remaining < total
    for bucket = 0, max - 1 do
        local free = number('free:' .. bucket) or 0
        if free <= now then
            redis.call('HDEL', book, 'held:' .. bucket)
        elseif redis.call('HEXISTS', book, 'held:' .. bucket) == 1 then
            remaining = remaining - 1 -- granted, and Discord may not have counted it yet
        end
        if blind and free < now + interval then
            redis.call('HSET', book, 'free:' .. bucket, now + interval)
        end
    end
    redis.call('HSET', book, 'total', total, 'remaining', remaining, 'resets_at', now + reset_after,
               'max', max, 'noted_at', now)
    redis.call('HDEL', book, 'asking_until')
    return {}
end

local function settle(bucket, holder, interval)
    if redis.call('HGET', book, 'held:' .. bucket) ~= holder then
        return {}
    end
    redis.call('HDEL', book, 'held:' .. bucket)
    redis.call('HSET', book, 'free:' .. bucket, now + interval)
    return {'settled'}
end

if ARGV[1] == 'ask' then
    local answer = ask(tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]),
                       tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]))
    return {number('granted') or 0, now, answer}
elseif ARGV[1] == 'note' then
    return note(tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]))
elseif ARGV[1] == 'spent' then
    return settle(ARGV[2], ARGV[3], tonumber(ARGV[4]))
end
if settle(ARGV[2], ARGV[3], 0)[1] then
    redis.call('HINCRBY', book, 'remaining', 1)
end
return {}
