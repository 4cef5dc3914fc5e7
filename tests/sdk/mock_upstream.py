"""A mock of an OpenAI-compatible upstream for the SDK tests: prints its port, then answers until it is stopped.

What is asked decides the answer: a message `fail-429-once` or `fail-500-once` fails the first time, tools are called,
streams come word by word. Every answer has the usage that the tests expect.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHAT = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 1}}
HEAD = {"id": "chatcmpl-1", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
TOOL = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Santiago"}'}}
RESPONSE = {
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o-mini-2024-07-18",
    "error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "parallel_tool_calls": True,
    "temperature": 1.0, "top_p": 1.0, "tool_choice": "auto", "tools": [],
    "output": [{"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "This is a test.", "annotations": []}]}],
    "usage": {"input_tokens": 22, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 6,
              "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 28},
}
failed, lock = set(), threading.Lock()


class Mock(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/embeddings":
            return self.whole(200, {"object": "list", "model": body["model"], "usage": {"prompt_tokens": 7, "total_tokens": 7},
                                    "data": [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]})
        if self.path == "/v1/responses":
            if not body.get("stream"):
                return self.whole(200, RESPONSE)
            delta = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0,
                     "sequence_number": 1, "logprobs": [], "delta": "This is a test."}
            done = {"type": "response.completed", "sequence_number": 2, "response": RESPONSE}
            return self.stream([f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in (delta, done)])
        said = json.dumps(body["messages"])
        for status in (429, 500):
            with lock:
                first = f"fail-{status}-once" in said and (said, status) not in failed
                failed.add((said, status))
            if first:
                return self.whole(status, {"error": {"message": "try again", "type": "x", "code": None, "param": None}},
                                  [("retry-after-ms", "50")])
        if "fail-400" in said:
            return self.whole(400, {"error": {"message": "wrong", "type": "invalid_request_error", "code": "bad", "param": "x"}})
        if body.get("stream"):
            return self.chat_stream(body)
        message = {"role": "assistant", "content": "This is a test."}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [TOOL]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if body.get("tools") else "stop"}
        self.whole(200, {**HEAD, "object": "chat.completion", "choices": [choice], "usage": CHAT})

    def chat_stream(self, body):
        asked = (body.get("stream_options") or {}).get("include_usage")
        null = {"usage": None} if asked else {}
        chunk = {**HEAD, "object": "chat.completion.chunk", **null}
        if body.get("tools"):
            deltas = [{"tool_calls": [{"index": 0, **TOOL}]}]
        else:
            deltas = [{"role": "assistant", "content": ""}] + [{"content": word} for word in ("This", " is", " a", " test", ".")]
        events = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if asked:
            events.append({**chunk, "choices": [], "usage": CHAT})
        self.stream([f"data: {json.dumps(event, separators=(',', ':'))}\n\n" for event in events] + ["data: [DONE]\n\n"])

    def whole(self, status, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in [("content-type", "application/json"), ("content-length", str(len(data))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Mock)
print(server.server_port, flush=True)
server.serve_forever()
