"""The official Python client through the door: nothing of it is changed but its base URL and its key."""

import json
import os
import time
import urllib.request

import openai

URL, ADMIN, KEY, POOR = (os.environ[name] for name in ("DOOR_URL", "ADMIN_KEY", "TENANT_KEY", "POOR_KEY"))
TENANT = "python"
MODEL = "gpt-4o-mini"
client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY)
say = [{"role": "user", "content": "Say this is a test"}]
tool = {"type": "function", "function": {"name": "get_weather", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}


def events(tenant=TENANT):
    request = urllib.request.Request(f"{URL}/api/usage/{tenant}/events?limit=500", headers={"authorization": f"Bearer {ADMIN}"})
    return json.load(urllib.request.urlopen(request))["events"]


def settled(count, tenant=TENANT):
    """The tenant's events, newest first, once there are so many."""
    for _ in range(200):
        found = events(tenant)
        if len(found) >= count:
            assert len(found) == count, (count, found)
            return found
        time.sleep(0.02)
    raise AssertionError(f"{len(found)} events instead of {count}")


def fails(kind, code, call):
    try:
        call()
    except kind as error:
        assert error.code == code, (error.code, code, error)
        return error
    raise AssertionError(f"{kind} was not raised")


assert MODEL in [model.id for model in client.models.list()]

whole = client.chat.completions.create(model=MODEL, messages=say)
assert whole.choices[0].message.content == "This is a test." and whole.usage.total_tokens == 17
event = settled(1)[0]
assert (event["input_tokens"], event["cached_input_tokens"], event["output_tokens"], event["reasoning_tokens"]) == (12, 4, 5, 1)

chunks = list(client.chat.completions.create(model=MODEL, messages=say, stream=True))
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "This is a test."
assert all(chunk.usage is None for chunk in chunks), "usage that was not asked for is not seen"
assert settled(2)[0]["tokens_consumed"] == 17

chunks = list(client.chat.completions.create(model=MODEL, messages=say, stream=True, stream_options={"include_usage": True}))
assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == 17
settled(3)

called = client.chat.completions.create(model=MODEL, messages=say, tools=[tool])
assert json.loads(called.choices[0].message.tool_calls[0].function.arguments) == {"city": "Santiago"}
chunks = list(client.chat.completions.create(model=MODEL, messages=say, tools=[tool], stream=True))
assert chunks[0].choices[0].delta.tool_calls[0].function.name == "get_weather"
settled(5)

vector = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"], encoding_format="float")
assert vector.data[0].embedding == [0.5, -0.25]
assert settled(6)[0]["embedding_tokens"] == 7

response = client.responses.create(model=MODEL, input="Say this is a test")
assert response.output_text == "This is a test."
kinds = [event.type for event in client.responses.create(model=MODEL, input="Say this is a test", stream=True)]
assert kinds == ["response.output_text.delta", "response.completed"], kinds
assert settled(8)[0]["tokens_consumed"] == 28

# Its own retries: a 429 and a 500 of the upstream are tried again, each attempt is recorded.
for status in (429, 500):
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"fail-{status}-once python"}])
    assert answer.usage.total_tokens == 17
assert [event["api_status_code"] for event in settled(12)[:4]] == [200, 500, 200, 429]

fails(openai.BadRequestError, "bad", lambda: client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "fail-400"}]))
fails(openai.NotFoundError, "model_not_found", lambda: client.chat.completions.create(model="o9", messages=say))
stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk-nobody")
fails(openai.AuthenticationError, "invalid_api_key", lambda: stranger.chat.completions.create(model=MODEL, messages=say))

# A budget that is used up: refused at once, and not tried again.
poor = openai.OpenAI(base_url=f"{URL}/v1", api_key=POOR, max_retries=5)
error = fails(openai.RateLimitError, "insufficient_quota", lambda: poor.chat.completions.create(model=MODEL, messages=say))
assert error.type == "insufficient_quota" and error.response.headers["x-should-retry"] == "false"
assert len(settled(1, "poor-python")) == 1, "asked once"

# Hung up in mid-stream: settled all the same.
with client.chat.completions.create(model=MODEL, messages=say, stream=True) as stream:
    next(iter(stream))
settled(14)
print(f"the openai package {openai.__version__} for Python works through the door")
