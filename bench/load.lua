-- Load over HTTP/1.1 for `luajit`, from one process, over connections that are kept open.
--   luajit load.lua PORT CONNECTIONS SECONDS CALLS PER_SECOND post PATH KEY BODY_FILE TIMES_FILE
--   luajit load.lua PORT CONNECTIONS SECONDS CALLS PER_SECOND look KEY PATHS_FILE
-- PER_SECOND 0 is a closed loop: each connection sends its next call when it has the answer to the last. Otherwise the
-- loop is open: calls are due at even distances whatever the server does, and a call's time counts from when it was due.
-- No call is begun after SECONDS or CALLS (0: no limit); those that are open then are waited for, so that every call is
-- counted. What was found is printed as JSON.
local ffi = require("ffi")
ffi.cdef [[
  typedef struct { int fd; short events; short revents; } wait_t;
  typedef struct { long seconds; long nanoseconds; } time_t_;
  typedef struct { uint16_t family; uint16_t port; uint8_t address[4]; uint8_t zero[8]; } address_t;
  int socket(int, int, int);
  int connect(int, const address_t *, unsigned);
  int setsockopt(int, int, int, const int *, unsigned);
  ssize_t send(int, const char *, size_t, int);
  ssize_t recv(int, char *, size_t, int);
  int ppoll(wait_t *, unsigned long, const time_t_ *, const void *);
  int clock_gettime(int, time_t_ *);
  int close(int);
]]
local C = ffi.C
local AF_INET, SOCK_STREAM, TCP, NODELAY, POLLIN, DONTWAIT, NOSIGNAL, MONOTONIC = 2, 1, 6, 1, 1, 0x40, 0x4000, 1
local LONGEST_SECONDS = 15 -- for one answer

local port, connections, seconds, calls, per_second = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5])
local kind = arg[6]

local time = ffi.new("time_t_")
local function clock()
  C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

local function read_all(name)
  local file = assert(io.open(name, "rb"))
  local content = file:read("*a")
  file:close()
  return content
end

local host = "Host: 127.0.0.1:" .. port .. "\r\n"
local next_call -- the bytes of call number `n`
local times -- where the moment of each call is written, or nothing
if kind == "post" then
  local path, key, template = arg[7], arg[8], read_all(arg[9])
  local run = string.format("%d-%d", os.time(), clock() * 1e6 % 1e9)
  local head = "POST " .. path .. " HTTP/1.1\r\n" .. host .. "Authorization: Bearer " .. key
    .. "\r\nContent-Type: application/json\r\nIdempotency-Key: " .. run .. "-"
  times = arg[10] and {}
  next_call = function(n)
    local body = template:gsub("@", n)
    return head .. n .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  end
else
  local key, lines = arg[7], {}
  for path, etag in read_all(arg[8]):gmatch("(%S+) (%S+)\n") do
    local head = "GET " .. path .. " HTTP/1.1\r\n" .. host .. "Authorization: Bearer " .. key .. "\r\n"
    lines[#lines + 1] = head .. "\r\n"
    lines[#lines + 1] = head .. "If-None-Match: " .. etag .. "\r\n\r\n"
  end
  next_call = function(n) return lines[n % #lines + 1] end
end

local address = ffi.new("address_t", { family = AF_INET })
address.port = bit.bor(bit.lshift(bit.band(port, 0xff), 8), bit.rshift(port, 8))
address.address[0], address.address[3] = 127, 1
local one = ffi.new("int[1]", 1)
local function open()
  local fd = C.socket(AF_INET, SOCK_STREAM, 0)
  assert(C.connect(fd, address, ffi.sizeof(address)) == 0, "nobody listens")
  C.setsockopt(fd, TCP, NODELAY, one, 4)
  return fd
end

-- Of connection i: descriptors[i], and while a call is open begun[i] and what was received of its answer, parts[i].
local waits = ffi.new("wait_t[?]", connections)
local descriptors, begun, parts, idle = {}, {}, {}, {}
for i = 0, connections - 1 do
  descriptors[i], waits[i].events, waits[i].fd = open(), POLLIN, -1
  idle[#idle + 1] = i
end

local started = clock()
local sent, answered, lost, answers, latencies, ended = 0, 0, 0, {}, {}, started

local function send(i, due)
  sent = sent + 1
  local bytes = next_call(sent)
  begun[i], parts[i], waits[i].fd = due, "", descriptors[i]
  if times then times[sent] = due end
  C.send(descriptors[i], bytes, #bytes, NOSIGNAL) -- what cannot be sent shows when its answer is read
end

local function finish(i, status, now)
  waits[i].fd, idle[#idle + 1] = -1, i
  if status then
    answered, ended = answered + 1, now
    answers[status] = (answers[status] or 0) + 1
    latencies[answered] = (now - begun[i]) * 1e3
  else
    lost = lost + 1
    C.close(descriptors[i])
    descriptors[i] = open()
  end
end

-- The status of a complete answer; nothing while some of it is missing.
local function status_of(text)
  local head = text:find("\r\n\r\n", 1, true)
  if not head then return nil end
  local status = text:sub(10, 12)
  if status == "304" or status == "204" then return status end
  local lower = text:sub(1, head + 1):lower()
  local _, at = lower:find("content-length: ", 1, true)
  assert(at, "an answer without Content-Length")
  local length = tonumber(lower:sub(at + 1, lower:find("\r", at, true) - 1))
  return #text >= head + 3 + length and status or nil
end

local SIZE = 65536
local buffer = ffi.new("char[?]", SIZE)
local function receive(i)
  local count = tonumber(C.recv(descriptors[i], buffer, SIZE, DONTWAIT))
  if count <= 0 then return finish(i, nil, clock()) end
  parts[i] = parts[i] .. ffi.string(buffer, count)
  local status = status_of(parts[i])
  if status then finish(i, status, clock()) end
end

local function is_over(now) return now - started >= seconds or (calls > 0 and sent >= calls) end

local patience = ffi.new("time_t_")
while true do
  local now = clock()
  local due = per_second > 0 and started + sent / per_second or now
  while #idle > 0 and due <= now and not is_over(due) do
    send(table.remove(idle), due)
    due = per_second > 0 and started + sent / per_second or now
  end
  if #idle == connections and is_over(due) then break end
  local wait = LONGEST_SECONDS
  if per_second > 0 and #idle > 0 and not is_over(due) then wait = math.max(0, due - now) end
  patience.seconds, patience.nanoseconds = math.floor(wait), (wait % 1) * 1e9
  local ready = C.ppoll(waits, connections, patience, nil)
  assert(ready > 0 or wait < LONGEST_SECONDS, "an answer did not come")
  for i = 0, connections - 1 do
    if ready > 0 and waits[i].fd >= 0 and waits[i].revents ~= 0 then receive(i) end
  end
end

if times and arg[10] then
  local file = assert(io.open(arg[10], "w"))
  for n = 1, sent do file:write(string.format("%d %.6f\n", n, times[n])) end
  file:close()
end
table.sort(latencies)
local function part(share) return latencies[math.max(1, math.ceil(#latencies * share))] or 0 end
local statuses = {}
for status, count in pairs(answers) do statuses[#statuses + 1] = string.format('"%s": %d', status, count) end
print(string.format(
  '{"answers": {%s}, "lost": %d, "seconds": %f, "p50": %f, "p99": %f, "worst": %f, "cpu_seconds": %f}',
  table.concat(statuses, ", "), lost, ended - started, part(0.5), part(0.99), part(1), os.clock()))
