// From the HTTP API's names to the documented ones.

import type {
  DecisionDetails, DecisionJson, DeniedBy, DeniedByJson, QuotaState, QuotaStateJson, QuotaStatus, QuotaStatusJson, QuotaType,
  TypeResult, TypeResultJson,
} from './types/quota.js';

/** By type. @internal */
export function typeResults(decision: DecisionJson): Partial<Record<QuotaType, TypeResult>> {
  return mapValues(decision.results ?? {}, (result: TypeResultJson) => ({
    allowed: result.allowed,
    tokensRemaining: result.tokens_remaining,
    quotaLimit: result.quota_limit,
    ...(result.error === undefined ? {} : { error: result.error }),
  }));
}

/** What a decision says beside yes or no. @internal */
export function decisionDetails(decision: DecisionJson): DecisionDetails {
  const { error, code, denied_by, would_deny, retry_after_seconds, decision_id } = decision;
  return {
    ...(error === undefined ? {} : { error }),
    ...(code === undefined ? {} : { code }),
    ...(denied_by === undefined ? {} : { deniedBy: denied_by.map(deniedBy) }),
    ...(would_deny === undefined ? {} : { wouldDeny: would_deny.map(deniedBy) }),
    ...(retry_after_seconds === undefined ? {} : { retryAfterSeconds: retry_after_seconds }),
    ...(decision_id === undefined ? {} : { decisionId: decision_id }),
  };
}

/** A tenant's quotas. @internal */
export function quotaStatus(status: QuotaStatusJson): QuotaStatus {
  return {
    plan: status.plan,
    status: status.status,
    quotas: mapValues(status.quotas, quotaState),
    limits: status.limits.map(quotaState),
    anyExceeded: status.anyExceeded,
  };
}

function quotaState(state: QuotaStateJson): QuotaState {
  const { quota_type: quotaType, resets_at: resetsAt, thresholds_crossed: thresholdsCrossed, ...same } = state;
  return { quotaType, ...same, resetsAt, ...(thresholdsCrossed === undefined ? {} : { thresholdsCrossed }) };
}

function deniedBy(denied: DeniedByJson): DeniedBy {
  const { quota_type: quotaType, resets_at: resetsAt, ...same } = denied;
  return { quotaType, scope: 'tenant', ...same, resetsAt };
}

function mapValues<K extends string, V, W>(record: Record<K, V>, map: (value: V) => W): Record<K, W>;
function mapValues<K extends string, V, W>(record: Partial<Record<K, V>>, map: (value: V) => W): Partial<Record<K, W>>;
function mapValues<V, W>(record: Record<string, V>, map: (value: V) => W): Record<string, W> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
