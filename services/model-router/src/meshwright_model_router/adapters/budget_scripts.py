"""What Redis does in one step with the budgets of a tenant. All keys have the tenant's slot.

    mw:{tenant}:budget:leases      sorted set: reservation -> when its lease ends, in milliseconds
    mw:{tenant}:budget:attempts    hash: reservation -> [day, user, tokens, money, at] LF attempt
    mw:{tenant}:budget:YYYY-MM-DD  hash of a UTC day:
        ready, stale   nothing is given out before `ready`, nor while `stale` is set
        generation     changes with each correction
        epoch, t:REPLICA  when it was begun or closed, in microseconds; for which epoch a replica
                       told what its calls hold
        lost           calls may run that were held in what was lost: all replicas must tell
        tu tr cu cr    tokens and money, used and reserved, of the tenant
        u:USER r:USER  tokens, used and reserved, of a user, who is told by a fingerprint

Only the server's time counts, to the millisecond: a client's clock decides nothing. Numbers stay
below 2^53, which Lua's doubles hold exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from meshwright_model_router.domain.pricing import TOKENS_PER_PRICE

DAYS: Final = 3
"""Days around today whose keys a call names: the client's clock may be wrong by one."""
KEPT_MILLISECONDS: Final = 3 * 24 * 3600 * 1000

_TIME: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the name under which a server keeps it."""

    text: str
    sha1: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha1", digest)


# ARGV[1]: {lease milliseconds, day of KEYS[3], operations}. Operations are done in their order:
#   r id user prompt output least weight input-price output-price tokens money user-tokens attempt
#   s id tokens money          settle
#   k id ...                   keep: renew leases
#   a id day user tokens money at attempt   hold again what this server has lost
#   t replica day epoch                     the replica has told all that its calls hold
# Answers {now, day, 1 if a lease has run out, answers}; the answer
#   to r: {1, output, tokens, money, and now used and reserved: the tenant's tokens, its money, the
#         user's tokens, the day's epoch} or {0, dimension, used, reserved, limit} or
#         {-1, milliseconds}: not ready, -1 when the day is not there, 0 when it is stale
#   to s: 1, or 0 when nothing is held under this id
#   to k: the ids that are not there
#   to a: 1, 0 when it was there, -1 when its day is not
#   to t: 1, or 0 when the day is of another epoch
BOOK: Final = Script(
    _TIME
    + f"""
local input = cjson.decode(ARGV[1])
local lease, first = input[1], input[2]
local today = math.floor(time[1] / 86400)
local MILLION = {TOKENS_PER_PRICE}
"""
    + """
local function key_of(day)
    local place = day - first + 3
    if place < 3 then return nil end
    return KEYS[place]
end
local key = key_of(today)
if not key then return redis.error_reply('CLOCK the days of the client are not around today') end

local function add(target, name, amount)
    if amount ~= 0 then redis.call('HINCRBY', target, name, text(amount)) end
end

local function hold(target, id, day, user, tokens, money, at, attempt)
    add(target, 'tr', tokens)
    add(target, 'cr', money)
    if user ~= '' then add(target, 'r:' .. user, tokens) end
    local head = '[' .. day .. ',"' .. user .. '",' .. text(tokens) .. ',' .. text(money) .. ','
    redis.call('HSET', KEYS[2], id, head .. text(at) .. ']\\n' .. attempt)
    redis.call('ZADD', KEYS[1], text(now + lease), id)
end

local function reserve(op)
    local id, user, prompt, output, least = op[2], op[3], op[4], op[5], op[6]
    local weight, input_price, output_price = op[7], op[8], op[9]
    local state = redis.call('HMGET', key, 'ready', 'stale', 'tu', 'tr', 'cu', 'cr',
                             'u:' .. user, 'r:' .. user, 'epoch')
    if not state[1] then return {-1, -1} end
    if tonumber(state[1]) > now then return {-1, tonumber(state[1]) - now} end
    if state[2] then return {-1, 0} end
    local function amount(place) return tonumber(state[place] or 0) end
    local function tokens_of(made) return math.ceil((prompt + made) * weight / 1000) end
    local function money_of(made)
        return math.ceil((prompt * input_price + made * output_price) / MILLION)
    end
    local full
    local function fit_tokens(dimension, limit, used, reserved)
        if limit > 0 and tokens_of(output) > limit - used - reserved then
            output = math.floor((limit - used - reserved) * 1000 / weight) - prompt
            if output < least and not full then full = {0, dimension, used, reserved, limit} end
        end
    end
    fit_tokens(1, op[10], amount(3), amount(4))
    if user ~= '' then fit_tokens(2, op[12], amount(7), amount(8)) end
    local limit, used, reserved = op[11], amount(5), amount(6)
    if limit > 0 and money_of(math.max(output, 0)) > limit - used - reserved then
        local left = (limit - used - reserved) * MILLION - prompt * input_price
        if output_price > 0 then
            output = math.min(output, math.floor(left / output_price))
        else
            output = -1
        end
        if output < least and not full then full = {0, 3, used, reserved, limit} end
    end
    if full then return full end
    local tokens, money = tokens_of(output), money_of(output)
    hold(key, id, today, user, tokens, money, now, op[13])
    return {1, output, tokens, money, amount(3) + amount(4) + tokens,
            amount(5) + amount(6) + money, amount(7) + amount(8) + tokens, state[9] or ''}
end

local function settle(op)
    local held = redis.call('HGET', KEYS[2], op[2])
    if not held then return 0 end
    redis.call('HDEL', KEYS[2], op[2])
    redis.call('ZREM', KEYS[1], op[2])
    local head = cjson.decode(string.match(held, '^[^\\n]*'))
    local target = key_of(head[1])
    -- A day that is over, or that was lost with all that it counted.
    if not target or redis.call('HEXISTS', target, 'ready') == 0 then return 1 end
    add(target, 'tr', -head[3])
    add(target, 'cr', -head[4])
    add(target, 'tu', op[3])
    add(target, 'cu', op[4])
    if head[2] ~= '' then
        add(target, 'r:' .. head[2], -head[3])
        add(target, 'u:' .. head[2], op[3])
    end
    return 1
end

local function keep(op)
    local missing = {}
    for place = 2, #op do
        if redis.call('HEXISTS', KEYS[2], op[place]) == 1 then
            redis.call('ZADD', KEYS[1], text(now + lease), op[place])
        else
            missing[#missing + 1] = op[place]
        end
    end
    return missing
end

local function hold_again(op)
    local target = key_of(op[3])
    if not target or redis.call('HEXISTS', target, 'ready') == 0 then return -1 end
    if redis.call('HEXISTS', KEYS[2], op[2]) == 1 then return 0 end
    hold(target, op[2], op[3], op[4], op[5], op[6], op[7], op[8])
    return 1
end

local function told(op)
    local target = key_of(op[3])
    if not target or redis.call('HGET', target, 'epoch') ~= op[4] then return 0 end
    redis.call('HSET', target, 't:' .. op[2], op[4])
    return 1
end

local operations = {r = reserve, s = settle, k = keep, a = hold_again, t = told}
local answers = {}
for place, op in ipairs(input[3]) do answers[place] = operations[op[1]](op) end
local ended = #redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, 1)
return cjson.encode({now, today, ended, answers})
"""
)

# Begins a day, or closes one that is there until it was counted anew. KEYS: the day.
# ARGV: 1 if all replicas must tell first, milliseconds that the key is kept, 1: close it if there.
OPEN: Final = Script(
    _TIME
    + """
local there = redis.call('HMGET', KEYS[1], 'ready', 'stale')
if there[1] and (ARGV[3] ~= '1' or there[2]) then
    if ARGV[3] == '1' then
        redis.call('HSET', KEYS[1], 'lost', '1')
        redis.call('HINCRBY', KEYS[1], 'generation', 1)
    end
    return 0
end
-- A look at what was lost must not correct what is there now: no two generations are the same.
local epoch = text(time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], 'ready', text(now), 'stale', '1', 'epoch', epoch, 'generation', epoch)
if ARGV[1] == '1' then redis.call('HSET', KEYS[1], 'lost', '1') end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
)

# What is counted now, and which reservations are not settled. KEYS: leases, attempts, day.
LOOK: Final = Script(
    _TIME + "return {now, redis.call('HGETALL', KEYS[3]), redis.call('HKEYS', KEYS[2])}"
)

# Corrects what a look found, unless somebody did since. KEYS: day. ARGV: generation, then field and
# difference in turn. Answers 1 when it did.
CORRECT: Final = Script(
    _TIME
    + """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return 0 end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('HDEL', KEYS[1], 'stale', 'lost')
for place = 2, #ARGV, 2 do redis.call('HINCRBY', KEYS[1], ARGV[place], ARGV[place + 1]) end
return 1
"""
)

# Takes reservations whose lease ran out: whoever comes next leaves them alone for a while.
# KEYS: leases, attempts. ARGV: lease milliseconds, how many. Answers ids and attempts in turn.
TAKE: Final = Script(
    _TIME
    + """
local taken = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now), 'LIMIT', 0, ARGV[2])) do
    local held = redis.call('HGET', KEYS[2], id)
    if held then
        redis.call('ZADD', KEYS[1], text(now + ARGV[1]), id)
        taken[#taken + 1] = id
        taken[#taken + 1] = held
    else
        redis.call('ZREM', KEYS[1], id)
    end
end
return taken
"""
)

# Forgets a tenant unless it was noted anew. KEYS: holders. ARGV: tenant, when it was noted.
FORGET: Final = Script("""
local noted = redis.call('ZSCORE', KEYS[1], ARGV[1])
if noted and tonumber(noted) == tonumber(ARGV[2]) then
    return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0
""")
