// In place of the documented module `@/lib/quota-enforcement`; configured from the environment.

import { defaultClient, lazily } from './default-client.js';
import type { QuotaEnforcer as Quota } from './quota-enforcer.js';

export { defaultClient } from './default-client.js';
export type {
  MultipleQuotaResult, QuotaCheckResult, QuotaItem, QuotaStatus, QuotaType,
} from './types/quota.js';

/** The documented QuotaEnforcer. */
export const QuotaEnforcer: Quota = lazily(() => defaultClient().quota);
/** Takes an amount before the work is done. */
export const enforceQuota: Quota['enforceQuota'] = (...given) => defaultClient().quota.enforceQuota(...given);
/** Takes amounts of several types, all or nothing. */
export const enforceMultipleQuotas: Quota['enforceMultipleQuotas'] = (...given) => defaultClient().quota.enforceMultipleQuotas(...given);
/** Sets a tenant's own limit. */
export const setCustomQuota: Quota['setCustomQuota'] = (...given) => defaultClient().quota.setCustomQuota(...given);
/** A tenant's plan, limits, use and what is left. */
export const getQuotaStatus: Quota['getQuotaStatus'] = (...given) => defaultClient().quota.getQuotaStatus(...given);
