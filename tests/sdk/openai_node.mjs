// The official Node client through the door: nothing of it is changed but its base URL and its key.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import OpenAI from "openai";

const { DOOR_URL: url, ADMIN_KEY: admin, TENANT_KEY: key, POOR_KEY: poorKey } = process.env;
const model = "gpt-4o-mini";
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
const messages = [{ role: "user", content: "Say this is a test" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];

/** The tenant's events, newest first, once there are so many. */
async function settled(count, tenant = "node") {
  let found = [];
  for (let round = 0; round < 200; round += 1) {
    const answer = await fetch(`${url}/api/usage/${tenant}/events?limit=500`, { headers: { authorization: `Bearer ${admin}` } });
    found = (await answer.json()).events;
    if (found.length >= count) break;
    await pause(20);
  }
  assert.equal(found.length, count);
  return found;
}

async function collect(stream) {
  const all = [];
  for await (const chunk of await stream) all.push(chunk);
  return all;
}

async function fails(kind, code, call) {
  const error = await call().then(() => assert.fail("it did not fail"), (error) => error);
  assert.ok(error instanceof kind, `${error}`);
  assert.equal(error.code, code);
  return error;
}

const listed = [];
for await (const entry of client.models.list()) listed.push(entry.id);
assert.ok(listed.includes(model));

const whole = await client.chat.completions.create({ model, messages });
assert.equal(whole.choices[0].message.content, "This is a test.");
const [event] = await settled(1);
assert.deepEqual([event.input_tokens, event.cached_input_tokens, event.output_tokens, event.reasoning_tokens], [12, 4, 5, 1]);

const chunks = await collect(client.chat.completions.create({ model, messages, stream: true }));
assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), "This is a test.");
assert.ok(chunks.every((chunk) => !chunk.usage));
const asked = await collect(client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } }));
assert.equal(asked.at(-1).usage.total_tokens, 17);
await settled(3);

const called = await client.chat.completions.create({ model, messages, tools });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "get_weather");
const vector = await client.embeddings.create({ model: "text-embedding-3-small", input: "one", encoding_format: "float" });
assert.deepEqual(vector.data[0].embedding, [0.5, -0.25]);
const response = await client.responses.create({ model, input: "Say this is a test" });
assert.equal(response.output_text, "This is a test.");
const kinds = (await collect(client.responses.create({ model, input: "x", stream: true }))).map((event) => event.type);
assert.deepEqual(kinds, ["response.output_text.delta", "response.completed"]);
assert.equal((await settled(7))[0].tokens_consumed, 28);

// Its own retries: each attempt is recorded.
for (const status of [429, 500]) {
  const content = `fail-${status}-once node`;
  const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
  assert.equal(answer.usage.total_tokens, 17);
}
assert.deepEqual((await settled(11)).slice(0, 4).map((event) => event.api_status_code), [200, 500, 200, 429]);

const wrong = [{ role: "user", content: "fail-400" }];
await fails(OpenAI.BadRequestError, "bad", () => client.chat.completions.create({ model, messages: wrong }));
await fails(OpenAI.NotFoundError, "model_not_found", () => client.chat.completions.create({ model: "o9", messages }));
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "sk-nobody" });
await fails(OpenAI.AuthenticationError, "invalid_api_key", () => stranger.chat.completions.create({ model, messages }));

// A budget that is used up: refused at once, and not tried again.
const poor = new OpenAI({ baseURL: `${url}/v1`, apiKey: poorKey, maxRetries: 5 });
const refused = await fails(OpenAI.RateLimitError, "insufficient_quota", () => poor.chat.completions.create({ model, messages }));
assert.equal(refused.headers.get("x-should-retry"), "false");
await settled(1, "poor-node");

// Hung up in mid-stream: settled all the same.
const stream = await client.chat.completions.create({ model, messages, stream: true });
for await (const chunk of stream) {
  assert.ok(chunk.id);
  break;
}
await settled(13);
console.log("the openai package for Node works through the door");
