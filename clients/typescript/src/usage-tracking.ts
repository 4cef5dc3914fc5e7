// In place of the documented module `@/lib/usage-tracking`; configured from the environment.

import { defaultClient, lazily } from './default-client.js';
import type { UsageTracker as Usage } from './usage-tracker.js';

export { defaultClient } from './default-client.js';
export type { CallFields, SuccessFields, Tracker } from './tracker.js';

/** The documented UsageTracker. */
export const UsageTracker: Usage = lazily(() => defaultClient().usage);
/** Starts tracking one call. */
export const trackUsage: Usage['trackUsage'] = (...given) => defaultClient().usage.trackUsage(...given);
/** A tenant's metrics rows. */
export const getTenantUsage: Usage['getTenantUsage'] = (...given) => defaultClient().usage.getTenantUsage(...given);
/** The row of the current UTC day. */
export const getTodayUsage: Usage['getTodayUsage'] = (...given) => defaultClient().usage.getTodayUsage(...given);
/** A tenant's raw events. */
export const getTenantEvents: Usage['getTenantEvents'] = (...given) => defaultClient().usage.getTenantEvents(...given);
/** Totals over all tenants. */
export const getMultiTenantStats: Usage['getMultiTenantStats'] = (...given) => defaultClient().usage.getMultiTenantStats(...given);
/** The largest consumers. */
export const getTopConsumers: Usage['getTopConsumers'] = (...given) => defaultClient().usage.getTopConsumers(...given);
/** Tenants at or over a limit. */
export const getTenantExceedingQuota: Usage['getTenantExceedingQuota'] =
  (...given) => defaultClient().usage.getTenantExceedingQuota(...given);
/** Sends everything now: in serverless functions, before they answer. */
export const flush = (options?: { timeoutMs?: number }): Promise<boolean> => defaultClient().flush(options);
