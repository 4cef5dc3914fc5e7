// Keys of less power than the admin's, and alerts; where the server has no such routes yet, the client says so.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Alert, ApiKey, MadeKey, RecordingProblem } from 'metergate';

import { client, startServer, tenantWith, tokens } from './support/server.js';

const server = await startServer();
const metergate = client(server);
const { admin } = metergate;
const NO_ROUTE = { name: 'MetergateError', status: 404, code: 'not_found' };

async function answers(path: string): Promise<boolean> {
  const { status } = await fetch(server.url + path, { headers: { authorization: `Bearer ${server.key}` } });
  return status !== 404;
}

const KEY: Record<keyof ApiKey, true> = {
  key_id: true, name: true, role: true, tenants: true, status: true, built_in: true, created_by: true, created_at: true,
  expires_at: true, revoked_at: true, last_used_at: true, replaces: true, replaced_by: true,
};
const MADE: Record<Exclude<keyof MadeKey, 'old_key_expires_at'>, true> = { ...KEY, key: true };
const ALERT: Record<keyof Alert, true> = {
  event_id: true, tenant_id: true, quota_type: true, window: true, window_start: true, percent: true, limit: true, used: true,
  mode: true, at: true,
};
const sorted = (fields: object): string[] => Object.keys(fields).sort();

test('a service key of one tenant enforces and records there, and nowhere else', async () => {
  if (!(await answers('/api/admin/keys'))) {
    await assert.rejects(admin.listKeys(), NO_ROUTE);
    return;
  }
  await admin.putTenant('own', { plan: 'pro' });
  await admin.putTenant('foreign', { plan: 'pro' });
  const made = await admin.createKey({ name: 'chat service', role: 'service', tenants: ['own'] });
  assert.deepEqual(sorted(made), sorted(MADE));
  const problems: RecordingProblem[] = [];
  const service = client({ url: server.url, key: made.key }, { onError: (problem) => problems.push(problem) });
  const quota = await service.enforceQuota('own', 'tokens', 100);
  assert.ok(quota.allowed);
  await service.trackUsage('own', 'api_call').recordSuccess({ tokensUsed: 30 });
  assert.deepEqual(await tokens(service, 'own'), [30, 0]);

  const foreign = await service.enforceQuota('foreign', 'tokens', 100);
  assert.deepEqual([foreign.allowed, foreign.code], [false, 'tenant_unknown']);
  await Promise.all(['foreign', 'own'].map((tenantId) => service.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 1 })));
  assert.deepEqual(problems.map(({ kind, code }) => [kind, code]), [['rejected', 'tenant_unknown']]);
  assert.deepEqual(await tokens(metergate, 'own'), [31, 0]);
  assert.deepEqual(await tokens(metergate, 'foreign'), [0, 0]);
  await assert.rejects(service.admin.listKeys(), { status: 403, code: 'INSUFFICIENT_PERMISSIONS' });

  const rotated = await admin.rotateKey(made.key_id, { overlapSeconds: 60 });
  assert.deepEqual(sorted(rotated), [...sorted(MADE), 'old_key_expires_at'].sort());
  assert.equal((await admin.revokeKey(made.key_id)).status, 'revoked');
  const { keys } = await admin.listKeys();
  assert.deepEqual(keys.map(({ status }) => status), ['active', 'revoked', 'active']);
  assert.deepEqual(sorted(keys[0] ?? {}), sorted(KEY));
  // A revoked key rejects decisions, and what it records is kept for its successor.
  await assert.rejects(service.enforceQuota('own', 'tokens', 1), { status: 401 });
  await service.trackUsage('own', 'api_call').recordSuccess({ tokensUsed: 1 });
  assert.equal(service.stats.queued, 1);
});

test('alerts', async () => {
  if (!(await answers('/api/admin/alerts'))) {
    await assert.rejects(admin.listAlerts(), NO_ROUTE);
    return;
  }
  const tenantId = await tenantWith(metergate, 100);
  await metergate.trackUsage(tenantId, 'api_call').recordSuccess({ tokensUsed: 90 });
  const { quotas } = await metergate.getQuotaStatus(tenantId);
  assert.deepEqual(quotas.tokens.thresholdsCrossed, [80]);
  const late = performance.now() + 10_000;
  let page = await admin.listAlerts({ tenantId, limit: 5 });
  while (page.alerts.length === 0 && performance.now() < late) {
    page = await admin.listAlerts({ tenantId, limit: 5 });
  }
  const [alert] = page.alerts;
  assert.deepEqual(sorted(alert ?? {}), sorted(ALERT));
  assert.deepEqual([alert?.quota_type, alert?.percent, alert?.limit, alert?.used], ['tokens', 80, 100, 90]);
});
