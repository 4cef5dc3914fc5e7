// A server that is not there, or does not answer, or answers nonsense.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Metergate, type RecordingProblem } from 'metergate';

import { closedPort, startProxy, startSilence } from './support/proxy.js';
import { client, startServer, tenantWith, tokens } from './support/server.js';

const TIMEOUT_MS = 200;
/** What a busy machine may add. */
const GRACE_MS = 250;

async function timed<T>(work: Promise<T>): Promise<[T, number]> {
  const started = performance.now();
  const result = await work;
  return [result, performance.now() - started];
}

for (const [name, address] of [['a closed port', closedPort], ['a socket that never answers', startSilence]] as const) {
  for (const onUnreachable of ['allow', 'deny'] as const) {
    test(`${name}: enforceQuota answers in time by '${onUnreachable}', and record never rejects`, async () => {
      const problems: RecordingProblem[] = [];
      const metergate = new Metergate({
        url: await address(), key: 'k', timeoutMs: TIMEOUT_MS, onUnreachable, onError: (problem) => problems.push(problem),
      });
      const allowed = onUnreachable === 'allow';
      const [quota, quotaTook] = await timed(metergate.enforceQuota('acme', 'tokens', 500));
      assert.equal(quota.allowed, allowed);
      assert.match(quota.error ?? '', new RegExp(`${allowed ? 'allowed' : 'denied'} by onUnreachable$`));
      assert.deepEqual([quota.code, quota.tokensRemaining, quota.quotaLimit], ['unreachable', allowed ? -1 : 0, null]);
      assert.ok(quotaTook < TIMEOUT_MS + GRACE_MS, `${quotaTook} ms`);

      const several = await metergate.enforceMultipleQuotas('acme', [{ type: 'tokens', amount: 1 }]);
      assert.deepEqual([several.allowed, several.results, several.code], [allowed, {}, 'unreachable']);

      const [, recordTook] = await timed(metergate.trackUsage('acme', 'api_call').recordSuccess({ tokensUsed: 5 }));
      assert.ok(recordTook < TIMEOUT_MS + GRACE_MS, `${recordTook} ms`);
      // It is known to be down now: nobody waits any more.
      const [, again] = await timed(Promise.all(Array.from({ length: 1_000 }, () => metergate.trackUsage('acme', 'api_call').recordFailure('x'))));
      assert.ok(again < TIMEOUT_MS + GRACE_MS, `${again} ms`);
      const [eventId] = await timed(metergate.TrialAudit.created('acme'));
      assert.match(eventId, /^[0-9a-f-]{36}$/);
      assert.equal(metergate.stats.recorded, 0);
      assert.ok(metergate.stats.queued >= 1_002, `${metergate.stats.queued}`);

      const [flushed, flushTook] = await timed(metergate.flush({ timeoutMs: TIMEOUT_MS }));
      assert.equal(flushed, false);
      assert.ok(flushTook < TIMEOUT_MS + GRACE_MS, `${flushTook} ms`);
      assert.ok(problems.some(({ kind }) => kind === 'unreachable'));
      await assert.rejects(metergate.check('acme', 'tokens', 1), { name: 'UnreachableError' });
      await metergate.close({ timeoutMs: 1 });
    });
  }
}

test('a grant whose answer was lost is asked for again under its id, and settled once', async () => {
  const server = await startServer();
  let lost = 0;
  const proxy = await startProxy(server.url, (path) => (path === '/api/quota/reserve' && (lost += 1) === 1 ? 'lose' : 'pass'));
  const direct = client(server);
  const metergate = client({ ...server, url: proxy.url });
  const tenantId = await tenantWith(direct, 1_000);
  const quota = await metergate.enforceQuota(tenantId, 'tokens', 600);
  assert.equal(quota.allowed, true);
  assert.equal(quota.error, undefined);
  assert.deepEqual(await tokens(direct, tenantId), [0, 600]);
  assert.equal(proxy.bodies[0], proxy.bodies[1]);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 10 });
  assert.deepEqual(await tokens(direct, tenantId), [10, 0]);
});

test('a hold that nobody heard of is settled when allowed, and given back when denied', async () => {
  const server = await startServer();
  const direct = client(server);
  const proxy = await startProxy(server.url, (path) => (path === '/api/quota/reserve' ? 'lose' : 'pass'));
  const tenantId = await tenantWith(direct, 1_000);
  const allowing = client({ ...server, url: proxy.url }, { onUnreachable: 'allow', timeoutMs: 1_000 });
  const allowed = await allowing.enforceQuota(tenantId, 'tokens', 300);
  assert.deepEqual([allowed.allowed, allowed.code], [true, 'unreachable']);
  assert.deepEqual(await tokens(direct, tenantId), [0, 300]);
  await allowing.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 20 });
  assert.deepEqual(await tokens(direct, tenantId), [20, 0]);

  const denying = client({ ...server, url: proxy.url }, { timeoutMs: 1_000 });
  const denied = await denying.enforceQuota(tenantId, 'tokens', 300);
  assert.deepEqual([denied.allowed, denied.code], [false, 'unreachable']);
  assert.equal(await denying.flush(), true);
  assert.deepEqual(await tokens(direct, tenantId), [20, 0]);
});

test('usage of a grant that never arrived is recorded all the same', async () => {
  const server = await startServer();
  const direct = client(server);
  const proxy = await startProxy(server.url, (path) => (path === '/api/quota/reserve' ? 'refuse' : 'pass'));
  const metergate = client({ ...server, url: proxy.url }, { onUnreachable: 'allow' });
  const tenantId = await tenantWith(direct, 1_000);
  const quota = await metergate.enforceQuota(tenantId, 'tokens', 300);
  assert.match(quota.allowed ? quota.error ?? '' : '', /^metergate cannot answer: busy; allowed by onUnreachable$/);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 20 });
  await metergate.flush();
  assert.deepEqual(await tokens(direct, tenantId), [20, 0]);
});

test('an answer that is no decision is treated as none; a mistake of the caller is thrown', async () => {
  const server = await startServer();
  const answered = (status: number, text: string): Metergate => client(server, {
    onUnreachable: 'allow',
    fetch: () => Promise.resolve({ status, headers: { get: () => null }, text: () => Promise.resolve(text) }),
  });
  for (const [status, text] of [[200, '<html>'], [200, '{}'], [429, 'slow down'], [502, 'bad gateway'], [408, '']] as const) {
    const quota = await answered(status, text).enforceQuota('acme', 'tokens', 1);
    assert.deepEqual([quota.allowed, quota.code], [true, 'unreachable'], `${status} ${text}`);
  }
  const metergate = client(server);
  await assert.rejects(metergate.enforceQuota('acme', 'tokens', -1), { name: 'MetergateError', status: 400, code: 'invalid_request' });
  await assert.rejects(metergate.enforceQuota('a/b', 'tokens', 1), { status: 400, code: 'invalid_tenant_id' });
  await assert.rejects(client({ ...server, key: 'wrong' }).enforceQuota('acme', 'tokens', 1), { status: 401 });

  await metergate.admin.putTenant('late', { status: 'suspended' });
  const refused = await metergate.enforceQuota('late', 'tokens', 1);
  assert.deepEqual([refused.allowed, refused.code, refused.tokensRemaining], [false, 'tenant_suspended', 0]);
});
