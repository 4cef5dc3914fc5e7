// Upstreams that break in every way, made with mockttp, and the official Node client at the other end of the door: after
// each, the hold is gone, and the call is counted once, with what is known of it.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { Readable } from "node:stream";
import { setTimeout as pause } from "node:timers/promises";
import { getLocal } from "mockttp";
import OpenAI from "openai";

const model = "gpt-4o-mini";
const messages = [{ role: "user", content: "Say this is a test" }];
const reserved = 64;
const upstream = getLocal();
await upstream.start();
// The door is started once it can be told where the upstream is.
writeFileSync(process.env.PORT_FILE, `${upstream.port}\n`);
const url = (await new Response(process.stdin).text()).trim();
const admin = { authorization: `Bearer ${process.env.ADMIN_KEY}`, "content-type": "application/json" };

async function ask(method, path, body) {
  const answer = await fetch(`${url}${path}`, { method, headers: admin, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

const piece = (text) =>
  `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model, choices: [{ index: 0, delta: { content: text } }] })}\n\n`;
const usage = { prompt_tokens: 12, completion_tokens: 5, total_tokens: 17 };
const last = `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", model, choices: [], usage })}\n\ndata: [DONE]\n\n`;
const whole = { id: "c", object: "chat.completion", model, choices: [{ index: 0, finish_reason: "stop", message: { role: "assistant", content: "ok" } }], usage };

/** A stream of these pieces; then `end` says how it goes on. */
function streaming(pieces, end) {
  const stream = new Readable({ read() {} });
  void (async () => {
    for (const text of pieces) {
      stream.push(text);
      await pause(20);
    }
    if (end === "cut") stream.destroy(new Error("cut"));
    if (end === "end") stream.push(null);
  })();
  return stream;
}

const rule = () => upstream.forPost("/v1/chat/completions").once();
const endless = { "content-type": "text/event-stream" };
// With its pieces counted, so that an end that is no end is seen.
const events = { ...endless, "transfer-encoding": "chunked" };
let count = 0;

/**
 * One upstream that breaks, a tenant of its own, and what has to be true afterwards. `expected` has the recorded status, how
 * it ended, and the bounds of the output tokens; further attempts of the client come before it.
 */
async function breaks(name, mock, call, expected, { retries = 0 } = {}) {
  const tenant = `t${(count += 1)}`;
  await ask("PUT", `/api/admin/tenants/${tenant}`, { plan: "pro" });
  const { key } = await ask("POST", "/api/admin/keys", { name: tenant, role: "service", tenants: [tenant] });
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: retries });
  await upstream.reset();
  await mock();
  const started = Date.now();
  await call(client);

  let recorded = [];
  let quota;
  for (let round = 0; round < 300; round += 1) {
    recorded = (await ask("GET", `/api/usage/${tenant}/events`)).events;
    quota = (await ask("GET", `/api/quota/${tenant}`)).quotas.tokens;
    if (recorded.length >= expected.length && quota.held === 0) break;
    await pause(20);
  }
  // Newest first; none twice, none missing.
  assert.equal(recorded.length, expected.length, `${name}: ${JSON.stringify(recorded)}`);
  recorded.reverse().forEach((event, place) => {
    const [status, ended, least, most] = expected[place];
    const told = `${name}: ${JSON.stringify(event)}`;
    assert.equal(event.api_status_code, status, told);
    assert.equal(event.metadata.ended, ended, told);
    assert.ok(event.output_tokens >= least && event.output_tokens <= most, told);
    assert.equal(event.metadata.usage_estimated, ended === undefined && least === most ? undefined : true, told);
  });
  assert.equal(quota.held, 0, `${name}: the hold is gone`);
  assert.equal(quota.used, recorded.reduce((sum, event) => sum + event.tokens_consumed, 0), `${name}: counted once`);
  // Nothing waits to be counted later.
  await pause(100);
  assert.equal((await ask("GET", `/api/quota/${tenant}`)).quotas.tokens.used, quota.used, name);
  console.log(`  ${name}: ok, ${Date.now() - started} ms`);
}

const create = (more) => (client) => client.chat.completions.create({ model, messages, max_tokens: reserved, ...more });

const fails = (status, more) => async (client) => {
  const error = await create(more)(client).then(() => assert.fail("it did not fail"), (error) => error);
  assert.equal(error.status, status, `${error}`);
};

/** Reads a stream that breaks; what came before the break arrived. */
const breaksAfter = (text) => async (client) => {
  let seen = "";
  const error = await (async () => {
    for await (const chunk of await create({ stream: true })(client)) seen += chunk.choices[0]?.delta.content ?? "";
  })().then(() => undefined, (error) => error);
  assert.ok(error, "the client is told that the stream broke");
  assert.equal(seen, text);
};

await breaks("the upstream closes before its answer", () => rule().thenCloseConnection(), fails(502), [[502, "broke_off", reserved, reserved]]);
await breaks("the upstream resets before its answer", () => rule().thenResetConnection(), fails(502), [[502, "broke_off", reserved, reserved]]);
await breaks("the upstream never answers", () => rule().thenTimeout(), fails(504), [[504, "timed_out", reserved, reserved]]);
await breaks("the upstream closes in mid-stream", () => rule().thenStream(200, streaming([piece("This"), piece(" is")], "cut"), events),
  breaksAfter("This is"), [[502, "broke_off", 1, 12]]);
await breaks("an answer whose only end is the connection's is cut", () => rule().thenStream(200, streaming([piece("This"), piece(" is")], "cut"), endless),
  async (client) => {
    // Nobody can tell this from an end: what was seen is counted.
    for await (const chunk of await create({ stream: true })(client)) void chunk;
  }, [[200, undefined, 1, 12]]);
await breaks("the upstream stalls in mid-stream", () => rule().thenStream(200, streaming([piece("This"), piece(" is")], "never"), events),
  breaksAfter("This is"), [[504, "timed_out", 1, 12]]);
await breaks("the upstream sends garbage for a stream", () => rule().thenStream(200, streaming(["\u0000\u0001 no event\n\n", "data: {no json\n\n"], "never"), events),
  async (client) => {
    const read = async () => {
      for await (const chunk of await create({ stream: true })(client)) void chunk;
    };
    // It cannot read that, and hangs up; nothing was seen that could be counted.
    await assert.rejects(read);
  }, [[499, "caller_gone", reserved, reserved]]);
await breaks("the upstream sends garbage for an answer", () => rule().thenReply(200, "<html>busy</html>", { "content-type": "text/html" }),
  create({}), [[200, undefined, 1, reserved]]);
await breaks("the client aborts in mid-stream", () => rule().thenStream(200, streaming([piece("This"), piece(" is")], "never"), events),
  async (client) => {
    const stream = await create({ stream: true })(client);
    for await (const chunk of stream) {
      if (chunk.choices[0].delta.content === " is") stream.controller.abort();
    }
  }, [[499, "caller_gone", 1, 12]]);
await breaks("the client's own retry after a reset is counted, and so is the reset", async () => {
  await rule().thenResetConnection();
  await rule().thenJson(200, whole);
}, create({}), [[502, "broke_off", reserved, reserved], [200, undefined, 5, 5]], { retries: 1 });
await breaks("a stream that does not break", () => rule().thenStream(200, streaming([piece("This"), last], "end"), events),
  async (client) => {
    let seen = "";
    for await (const chunk of await create({ stream: true })(client)) seen += chunk.choices[0].delta.content;
    assert.equal(seen, "This");
  }, [[200, undefined, 5, 5]]);

await upstream.stop();
const verified = await ask("POST", "/api/admin/verify", {});
assert.deepEqual(verified.differences, []);
console.log("every broken upstream is settled, and counted once");
