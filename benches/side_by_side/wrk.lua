-- Sends the bodies of a file in turn, and tells what came of it in one line of JSON.
-- The file: a path, a content type, a key, then one body a line; "\1" in a body is a new line.

local requests, next_one = {}, 0

function init(arguments)
    local lines = io.lines(arguments[1])
    local path, content_type, key = lines(), lines(), lines()
    local headers = { ["content-type"] = content_type, ["authorization"] = "Bearer " .. key }
    for body in lines do
        requests[#requests + 1] = wrk.format("POST", path, headers, (body:gsub("\1", "\n")))
    end
end

function request()
    next_one = next_one % #requests + 1
    return requests[next_one]
end

function done(summary, latency)
    local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    io.write(string.format(
        '\n{"requests":%d,"seconds":%f,"bytes":%d,"failed":%d,"refused":%d,"p50_ms":%f,"p99_ms":%f,"max_ms":%f}\n',
        summary.requests, summary.duration / 1e6, summary.bytes, failed, summary.errors.status,
        latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
