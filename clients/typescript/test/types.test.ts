// What must not compile. This file is checked by tsc; it does nothing when it runs.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  type AuditEventRow, Metergate, type Money, type QuotaCheckResult, type QuotaStatus, type QuotaType, type UsageRow,
} from 'metergate';
import { enforceQuota } from 'metergate/quota-enforcement';
import { trackUsage } from 'metergate/usage-tracking';

type Equal<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
function holds(...facts: true[]): number {
  return facts.length;
}

async function neverCalled(metergate: Metergate): Promise<void> {
  // @ts-expect-error what to do when the server does not answer must be chosen
  new Metergate({ url: 'http://127.0.0.1:8080', key: 'k' });
  // @ts-expect-error there are two choices
  new Metergate({ url: 'http://127.0.0.1:8080', key: 'k', onUnreachable: 'maybe' });
  // @ts-expect-error a key is needed
  new Metergate({ url: 'http://127.0.0.1:8080', onUnreachable: 'deny' });

  // @ts-expect-error no such quota type
  await metergate.enforceQuota('acme', 'words', 5);
  // @ts-expect-error an amount is needed
  await metergate.enforceQuota('acme', 'tokens');
  // @ts-expect-error a limit or null
  await metergate.setCustomQuota('acme', 'tokens');
  // @ts-expect-error items have a type and an amount
  await metergate.enforceMultipleQuotas('acme', [{ quota_type: 'tokens', amount: 5 }]);
  // @ts-expect-error no such field
  await metergate.trackUsage('acme', 'api_call').recordSuccess({ tokens: 5 });
  // @ts-expect-error a tracker needs a type
  metergate.trackUsage('acme');
  // @ts-expect-error audit events need an entity and an action
  await metergate.auditLog('kb_deleted', { tenantId: 'acme' });
  // @ts-expect-error no such action
  await metergate.auditLog('kb_deleted', { entityType: 'kb', action: 'destroy' });
  // @ts-expect-error the new plan is missing
  await metergate.TrialAudit.upgraded('acme', 'trial');
  // @ts-expect-error periods have names
  await metergate.usage.getTenantUsage('acme', undefined, undefined, 'weekly');
  // @ts-expect-error the answer does not change
  (await metergate.enforceQuota('acme', 'tokens', 5)).allowed = true;

  holds(true satisfies Equal<Awaited<ReturnType<typeof enforceQuota>>, QuotaCheckResult>);
  holds(true satisfies Equal<QuotaCheckResult['tokensRemaining'], number>);
  holds(true satisfies Equal<QuotaCheckResult['quotaLimit'], number | null>);
  holds(true satisfies Equal<keyof QuotaStatus['quotas'], QuotaType>);
  holds(true satisfies Equal<QuotaStatus['anyExceeded'], boolean>);
  holds(true satisfies Equal<UsageRow['estimated_cost_usd'], Money | null>);
  holds(true satisfies Equal<AuditEventRow['result'], 'success' | 'failure' | 'partial' | 'resolved'>);
  const [top] = await metergate.usage.getTopConsumers('api_calls');
  holds(true satisfies Equal<NonNullable<typeof top>['api_calls_total'], number>);
  // @ts-expect-error consumers show what they are ordered by
  assert.equal(top?.total_tokens_used, undefined);
  const recorded: Promise<void> = trackUsage('acme', 'own_type').recordRateLimit();
  await recorded;
}

test('the types hold', () => {
  assert.equal(typeof neverCalled, 'function');
});
