// The package `metergate`.

export { Admin } from './admin.js';
export { ChatAudit, ConfigAudit, ErrorAudit, KBaudit, TrialAudit } from './audit-builders.js';
export { AuditLogger, type AuditQuery } from './audit-logger.js';
export { Metergate } from './client.js';
export { MetergateError, UnreachableError } from './errors.js';
export type { FetchLike } from './http.js';
export type { MetergateOptions } from './options.js';
export {
  type CustomQuotaOptions, type EnforceOptions, type ExplainQuery, type OnUnreachable, QuotaEnforcer, type ReserveOptions,
} from './quota-enforcer.js';
export type { RecordingProblem, RecordingStats } from './recorder.js';
export { type CallFields, type SuccessFields, Tracker } from './tracker.js';
export { type ConsumerBy, type EventQuery, type MultiTenantStats, UsageTracker } from './usage-tracker.js';
export type * from './types/admin.js';
export type * from './types/audit.js';
export type * from './types/quota.js';
export type * from './types/usage.js';
