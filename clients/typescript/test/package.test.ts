// The package itself: how it loads, what it refuses, what its modules export.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import * as esm from 'metergate';
import * as auditLogging from 'metergate/audit-logging';
import * as quotaEnforcement from 'metergate/quota-enforcement';
import * as usageTracking from 'metergate/usage-tracking';

import { client, startServer, tenantWith, tokens } from './support/server.js';

const cjs = createRequire(import.meta.url)('metergate') as typeof esm;
const options = { url: 'http://127.0.0.1:9', key: 'k', onUnreachable: 'deny' } as const;

test('ESM and CommonJS both load, and export the same', () => {
  assert.notEqual(cjs.Metergate, esm.Metergate);
  assert.deepEqual(Object.keys(cjs).sort(), Object.keys(esm).sort());
  const require = createRequire(import.meta.url);
  for (const [path, module] of [
    ['metergate/usage-tracking', usageTracking], ['metergate/quota-enforcement', quotaEnforcement], ['metergate/audit-logging', auditLogging],
  ] as const) {
    assert.deepEqual(Object.keys(require(path) as object).sort(), Object.keys(module).sort(), path);
  }
});

test('both share their flows: a hold of one is not lost on the other', async () => {
  const server = await startServer();
  process.env['METERGATE_SERVER'] = server.url;
  process.env['METERGATE_KEY'] = server.key;
  process.env['METERGATE_ON_UNREACHABLE'] = 'deny';
  const direct = client(server);
  const tenantId = await tenantWith(direct, 1_000);
  const required = createRequire(import.meta.url)('metergate/usage-tracking') as typeof usageTracking;
  assert.equal(required.defaultClient(), quotaEnforcement.defaultClient());
  const quota = await quotaEnforcement.enforceQuota(tenantId, 'tokens', 100);
  assert.ok(quota.allowed);
  await required.UsageTracker.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 9 });
  assert.deepEqual(await tokens(direct, tenantId), [9, 0]);
  assert.equal((await quotaEnforcement.QuotaEnforcer.getQuotaStatus(tenantId)).quotas.tokens.used, 9);
  assert.equal((await auditLogging.AuditLogger.generateAuditReport(tenantId)).tenant_id, tenantId);
});

test('a browser is refused: a service key there is a leak', () => {
  for (const name of ['window', 'document']) {
    Object.defineProperty(globalThis, name, { value: {}, configurable: true });
    try {
      for (const { Metergate } of [esm, cjs]) {
        assert.throws(() => new Metergate(options), /a service key in a browser is a leak/);
      }
    } finally {
      Reflect.deleteProperty(globalThis, name);
    }
  }
  assert.ok(new esm.Metergate(options));
});

test('what is wrong with the options is said', () => {
  const made = (changes: object): (() => unknown) => () => new esm.Metergate({ ...options, ...changes });
  assert.throws(made({ onUnreachable: undefined }), /onUnreachable must be 'allow' or 'deny'/);
  assert.throws(made({ onUnreachable: 'maybe' }), /onUnreachable must be/);
  assert.throws(made({ url: 'localhost:8080' }), /url must be/);
  assert.throws(made({ url: 'http://u:p@localhost' }), /url must not carry/);
  assert.throws(made({ key: '' }), /key must be/);
  assert.throws(made({ key: 'two\nlines' }), /key must be/);
  assert.throws(made({ timeoutMs: 0 }), /timeoutMs must be from 1/);
  assert.throws(made({ queueMax: NaN }), /queueMax must be/);
});

test('the key shows in no print of a client and in no error', async () => {
  const { inspect } = await import('node:util');
  const metergate = new esm.Metergate({ ...options, key: 'the-secret-key' });
  const error = await metergate.check('acme', 'tokens').catch((caught: unknown) => caught);
  const shown = inspect(metergate, { depth: 9, showHidden: true }) + JSON.stringify(metergate) + inspect(error, { depth: 9 });
  assert.ok(!shown.includes('the-secret-key'));
});

test('an answer prints, compares and serialises as its fields', async () => {
  const { inspect } = await import('node:util');
  const metergate = new esm.Metergate({
    ...options,
    fetch: () => Promise.resolve({
      status: 200, headers: { get: () => null },
      text: () => Promise.resolve('{"allowed":true,"results":{"tokens":{"allowed":true,"tokens_remaining":5,"quota_limit":10}}}'),
    }),
  });
  const quota = await metergate.enforceQuota('acme', 'tokens', 5);
  assert.equal(inspect(quota), '{ allowed: true, tokensRemaining: 5, quotaLimit: 10 }');
  assert.deepEqual(quota, { allowed: true, tokensRemaining: 5, quotaLimit: 10 });
  assert.deepEqual({ ...quota }, { allowed: true, tokensRemaining: 5, quotaLimit: 10 });
  assert.equal(JSON.stringify(quota), '{"tokensRemaining":5,"quotaLimit":10,"allowed":true}');
});

test('the package depends on nothing, and says what it is', async () => {
  const path = new URL('../package.json', new URL(import.meta.resolve('metergate/package.json')));
  assert.ok(path.href.endsWith('package.json'));
  const text = await readFile(new URL(import.meta.resolve('metergate/package.json')), 'utf8');
  const manifest = JSON.parse(text) as Record<string, unknown>;
  assert.equal(manifest['dependencies'], undefined);
  assert.deepEqual(
    [manifest['name'], manifest['version'], manifest['license'], manifest['sideEffects'], manifest['engines']],
    ['metergate', '0.1.0', 'MIT OR Apache-2.0', false, { node: '>=20' }],
  );
});
