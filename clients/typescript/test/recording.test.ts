// What goes out in the background arrives once, or is accounted for.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import type { RecordingProblem } from 'metergate';

import { startProxy } from './support/proxy.js';
import { client, startServer, tenantWith, tokens } from './support/server.js';

const server = await startServer();
const direct = client(server);

test('events whose answers were lost are sent again under their ids, and count once', async () => {
  // Two of three answers are lost, and some requests are refused before they arrive.
  const proxy = await startProxy(server.url, (_, number) => (number % 4 === 2 ? 'refuse' : number % 4 === 3 ? 'pass' : 'lose'));
  const problems: RecordingProblem[] = [];
  const metergate = client({ ...server, url: proxy.url }, { onError: (problem) => problems.push(problem) });
  const tenantId = await tenantWith(direct, 1_000_000);
  await Promise.all(Array.from({ length: 1_200 }, (_, number) =>
    metergate.trackUsage(tenantId, 'api_call', { number }).recordSuccess({ tokensUsed: 3 })));
  assert.equal(await metergate.flush(), true);
  assert.deepEqual(await tokens(direct, tenantId), [3_600, 0]);
  const today = await direct.usage.getTodayUsage(tenantId);
  assert.equal(today.api_calls_total, 1_200);
  const { stats } = metergate;
  assert.deepEqual([stats.recorded, stats.queued, stats.rejected, stats.dropped], [1_200, 0, 0, 0]);
  assert.ok(stats.duplicates > 0 && stats.retries > 0);
  assert.ok(problems.every(({ kind }) => kind === 'unreachable'));
  const sizes = proxy.bodies.map((body) => (JSON.parse(body) as unknown[]).length);
  assert.ok(Math.max(...sizes) <= 500, sizes.join());
});

test('a settlement whose answer was lost is repeated, and counts once', async () => {
  const proxy = await startProxy(server.url, (path, number) => (path.endsWith('/settle') && number < 4 ? 'lose' : 'pass'));
  const metergate = client({ ...server, url: proxy.url }, { onError: () => undefined });
  const tenantId = await tenantWith(direct, 1_000);
  const quota = await metergate.enforceQuota(tenantId, 'tokens', 500);
  assert.ok(quota.allowed);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 120 });
  assert.equal(await metergate.flush(), true);
  assert.deepEqual(await tokens(direct, tenantId), [120, 0]);
  assert.deepEqual([metergate.stats.recorded, metergate.stats.duplicates], [1, 1]);
});

test('nothing has to be awaited: flush sends all of it, close takes no more', async () => {
  const problems: RecordingProblem[] = [];
  const metergate = client(server, { onError: (problem) => problems.push(problem) });
  const tenantId = await tenantWith(direct, 1_000_000);
  for (let number = 0; number < 700; number += 1) {
    void metergate.trackUsage(tenantId, 'api_call').recordSuccess({ inputTokens: 1, outputTokens: 1 });
  }
  void metergate.auditLog('kb_deleted', { tenantId, entityType: 'knowledge_base', entityId: 'kb', action: 'delete' });
  assert.equal(metergate.stats.queued, 701);
  assert.equal(await metergate.flush(), true);
  assert.deepEqual(await tokens(direct, tenantId), [1_400, 0]);
  assert.equal((await direct.audit.getTenantAuditTrail(tenantId)).filter((event) => event.event_type === 'kb_deleted').length, 1);

  const closing = metergate.close();
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess();
  assert.equal(await closing, true);
  assert.deepEqual(problems.map(({ kind, message }) => [kind, message]), [['dropped', 'the client is closed']]);
  assert.equal(metergate.stats.dropped, 1);
});

test('a full queue drops what comes then, counts it and says so', async () => {
  const problems: RecordingProblem[] = [];
  let open = false;
  const proxy = await startProxy(server.url, () => (open ? 'pass' : 'refuse'));
  const metergate = client({ ...server, url: proxy.url }, {
    queueMax: 20, onError: (problem) => { problems.push(problem); throw new Error('a broken listener'); },
  });
  const tenantId = await tenantWith(direct, 1_000_000);
  for (let number = 0; number < 30; number += 1) {
    await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 });
  }
  assert.deepEqual([metergate.stats.queued, metergate.stats.dropped], [20, 10]);
  assert.equal(problems.filter(({ kind }) => kind === 'dropped').length, 10);
  open = true;
  assert.equal(await metergate.flush(), true);
  assert.deepEqual(await tokens(direct, tenantId), [20, 0]);
});

test('a field that cannot be sent is left out and reported; the event is recorded', async () => {
  const problems: RecordingProblem[] = [];
  const metergate = client(server, { onError: (problem) => problems.push(problem) });
  const tenantId = await tenantWith(direct, 1_000_000);
  const circle: Record<string, unknown> = {};
  circle['self'] = circle;
  await metergate.trackUsage(tenantId, 'api_call', circle).recordSuccess({ tokensUsed: NaN, statusCode: 7, responseTimeMs: -1 });
  await metergate.trackUsage(tenantId, 'api_call', { large: 'é'.repeat(3_000) }).recordSuccess({ tokensUsed: 2.2 });
  const twice = metergate.trackUsage(tenantId, 'api_call');
  await twice.recordSuccess();
  await twice.recordFailure(new Error('late'));
  assert.deepEqual(problems.map(({ kind, message }) => `${kind}: ${message.slice(0, 19)}`), [
    'invalid: statusCode is 7: it',
    'invalid: responseTimeMs is -',
    'invalid: tokensUsed is NaN: ',
    'invalid: the metadata is no ',
    'invalid: the metadata has 60',
    'invalid: this tracker has re',
  ]);
  assert.deepEqual(await tokens(direct, tenantId), [3, 0]);
  const today = await direct.usage.getTodayUsage(tenantId);
  assert.deepEqual([today.api_calls_total, today.api_calls_failed], [3, 1]);
});

test('an event that the server refuses is reported with its reason, and spoils no other', async () => {
  const problems: RecordingProblem[] = [];
  const metergate = client(server, { onError: (problem) => problems.push(problem) });
  const tenantId = await tenantWith(direct, 1_000_000);
  await Promise.all([
    metergate.trackUsage('not/a/tenant', 'api_call').recordSuccess(),
    metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 4 }),
    metergate.trackUsage(tenantId, 'x'.repeat(51)).recordSuccess({ tokensUsed: 4 }),
  ]);
  assert.deepEqual(problems.map(({ kind, code }) => [kind, code]), [['rejected', 'invalid_tenant_id'], ['rejected', 'invalid_event']]);
  assert.deepEqual([metergate.stats.recorded, metergate.stats.rejected], [1, 2]);
  assert.deepEqual(await tokens(direct, tenantId), [4, 0]);
});

test('a clock that is ahead does not cost the event', async (context) => {
  const metergate = client(server);
  const tenantId = await tenantWith(direct, 1_000);
  context.mock.timers.enable({ apis: ['Date'], now: Date.now() + 3_600_000 });
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 5 });
  const quota = await metergate.enforceQuota(tenantId, 'tokens', 100);
  assert.ok(quota.allowed);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 6 });
  context.mock.timers.reset();
  await metergate.flush();
  assert.deepEqual(await tokens(direct, tenantId), [11, 0]);
  assert.deepEqual([metergate.stats.recorded, metergate.stats.rejected], [2, 0]);
});

test('a usage object of a provider is sent whole; one that the server cannot read does not cost the event', async () => {
  const problems: RecordingProblem[] = [];
  const proxy = await startProxy(server.url, () => 'pass');
  const metergate = client({ ...server, url: proxy.url }, { onError: (problem) => problems.push(problem) });
  const tenantId = await tenantWith(direct, 1_000_000);
  const usage = { who: 'knows', what: 'this is' };
  await metergate.trackUsage(tenantId, 'api_call', {}, { provider: 'unheard-of' }).recordSuccess({ usage, tokensUsed: 3 });
  const quota = await metergate.enforceQuota(tenantId, 'tokens', 100);
  assert.ok(quota.allowed);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ usage });
  const [sent] = JSON.parse(proxy.bodies[0] ?? '') as [Record<string, unknown>];
  assert.deepEqual([sent['provider'], sent['usage'], sent['tokens_consumed']], ['unheard-of', usage, undefined]);
  assert.deepEqual(problems.map(({ kind }) => kind), ['invalid', 'invalid']);
  assert.equal((await direct.usage.getTodayUsage(tenantId)).api_calls_total, 2);
  assert.deepEqual(await tokens(direct, tenantId), [0, 0]);
});

test('every field of a call arrives in its column', async () => {
  const metergate = client(server);
  const tenantId = await tenantWith(direct, 1_000_000);
  const tracker = metergate.trackUsage(tenantId, 'chat_message', { a: 1, b: 1 }, {
    apiMethod: 'POST', apiEndpoint: '/api/chat', chatSessionId: 'session-1',
  });
  await tracker.set({ model: 'model-x' }).recordSuccess({
    inputTokens: 100, cachedInputTokens: 40, outputTokens: 20, reasoningTokens: 5, costUsd: '0.000000000000123',
    responseTimeMs: 812, statusCode: 201, metadata: { b: 2 },
  });
  const [event] = await direct.usage.getTenantEvents(tenantId);
  assert.ok(event !== undefined);
  const { entry_id, created_at, event_timestamp, provider, usage, cost_estimated, ...columns } = event;
  assert.ok(!provider && !usage && !cost_estimated);
  assert.ok(entry_id > 0 && Date.parse(created_at) > 0 && Math.abs(Date.parse(event_timestamp) - Date.now()) < 60_000);
  assert.deepEqual(columns, {
    event_id: tracker.eventId, tenant_id: tenantId, event_type: 'chat_message', api_method: 'POST', api_endpoint: '/api/chat',
    api_status_code: 201, api_response_time_ms: 812, chat_session_id: 'session-1', model: 'model-x', embedding_tokens: null,
    search_query_tokens: null, search_result_count: null, tokens_consumed: 120, input_tokens: 100, cached_input_tokens: 40,
    output_tokens: 20, reasoning_tokens: 5, cost_usd: '0.000000000000123', metadata: { a: 1, b: 2 },
  });
});

test('a client keeps no process alive, and the last events still go out', async () => {
  const tenantId = await tenantWith(direct, 1_000);
  const script = `
    import { Metergate } from ${JSON.stringify(pathToFileURL(require_('metergate')).href)};
    const up = new Metergate({ url: ${JSON.stringify(server.url)}, key: ${JSON.stringify(server.key)}, onUnreachable: 'deny' });
    const down = new Metergate({ url: 'http://127.0.0.1:9', key: 'k', onUnreachable: 'deny', onError: () => {} });
    await down.trackUsage('acme', 'api_call').recordSuccess();
    for (let n = 0; n < 10; n += 1) up.trackUsage(${JSON.stringify(tenantId)}, 'api_call').recordSuccess({ tokensUsed: 1 });
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], { stdio: 'inherit' });
  const timer = setTimeout(() => { child.kill('SIGKILL'); }, 20_000);
  const [code] = await once(child, 'exit') as [number | null];
  clearTimeout(timer);
  assert.equal(code, 0);
  assert.deepEqual(await tokens(direct, tenantId), [10, 0]);
});

function require_(name: string): string {
  return new URL(import.meta.resolve(name)).pathname;
}
