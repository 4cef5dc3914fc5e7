// The documented quick start, word for word, against a real server.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { client, startServer } from './support/server.js';

const server = await startServer();
process.env['METERGATE_URL'] = server.url;
process.env['METERGATE_KEY'] = server.key;
process.env['METERGATE_ON_UNREACHABLE'] = 'deny';

const { trackUsage, getTodayUsage } = await import('metergate/usage-tracking');
const { enforceQuota, getQuotaStatus } = await import('metergate/quota-enforcement');
const { TrialAudit, getTenantAuditTrail } = await import('metergate/audit-logging');

interface Answer { status: number; body: unknown }

async function handleChat(tenantId: string, work: () => Promise<number>): Promise<Answer> {
  const quota = await enforceQuota(tenantId, 'tokens', 500);
  if (!quota.allowed) {
    return { status: 429, body: { error: quota.error, quota_remaining: quota.tokensRemaining } };
  }
  const tracker = trackUsage(tenantId, 'chat_message', { endpoint: '/api/widget/chat' });
  try {
    const tokensUsed = await work();
    await tracker.recordSuccess({ tokensUsed });
    return { status: 200, body: 'done' };
  } catch (error) {
    await tracker.recordFailure(error);
    return { status: 500, body: 'failed' };
  }
}

test('the documented quick start: enforce, track, record, and the status is exact', async () => {
  const answer = await handleChat('acme', () => Promise.resolve(432));
  assert.equal(answer.status, 200);
  const status = await getQuotaStatus('acme');
  assert.equal(status.plan, 'trial');
  assert.equal(status.anyExceeded, false);
  const { quotaType, window, limit, used, held, remaining, percentage, resetsAt } = status.quotas.tokens;
  assert.deepEqual([quotaType, window, limit, used, held, remaining, percentage], ['tokens', 'day', 10_000, 432, 0, 9_568, 4.32]);
  assert.ok(Date.parse(resetsAt) > Date.now());
  assert.equal(status.quotas.chat_messages.used, 1);
});

test('a failure is recorded with what is known of it, and its hold ends', async () => {
  const answer = await handleChat('failing', () => Promise.reject(new Error('the model is gone')));
  assert.equal(answer.status, 500);
  const today = await getTodayUsage('failing');
  assert.deepEqual([today.api_calls_failed, today.error_rate, today.total_tokens_used], [1, 100, 0]);
  const { quotas } = await getQuotaStatus('failing');
  assert.deepEqual([quotas.tokens.used, quotas.tokens.held], [0, 0]);
  const [event] = await client(server).usage.getTenantEvents('failing');
  assert.deepEqual(event?.metadata, { endpoint: '/api/widget/chat', error: 'the model is gone' });
  assert.equal(event.api_status_code, 500);
});

test('a denial names what is left and burns nothing', async () => {
  await client(server).setCustomQuota('small', 'tokens', 400);
  const answer = await handleChat('small', () => Promise.resolve(1));
  assert.equal(answer.status, 429);
  assert.match(JSON.stringify(answer.body), /limit is 400 tokens per day.*"quota_remaining":400/);
  await trackUsage('small', 'api_call').recordRateLimit();
  const { quotas } = await getQuotaStatus('small');
  assert.deepEqual([quotas.tokens.used, quotas.tokens.held, quotas.api_calls.used], [0, 0, 0]);
  assert.equal((await getTodayUsage('small')).api_calls_rate_limited, 1);
});

test('the documented audit builders write', async () => {
  const eventId = await TrialAudit.upgraded('acme', 'trial', 'pro');
  const trail = await getTenantAuditTrail('acme');
  const event = trail.find((one) => one.event_id === eventId);
  assert.deepEqual(
    [event?.event_type, event?.old_values, event?.new_values, event?.changes_summary],
    ['trial_upgraded', { plan: 'trial' }, { plan: 'pro' }, 'Plan upgraded from trial to pro'],
  );
});
