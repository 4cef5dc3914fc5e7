// The package `metergate`.

export type { Admin } from './admin.js';
export type { ChatAudit, ConfigAudit, ErrorAudit, KBaudit, TrialAudit } from './audit-builders.js';
export type { AuditLogger, AuditQuery } from './audit-logger.js';
export { Metergate } from './client.js';
export { MetergateError, UnreachableError } from './errors.js';
export type { FetchLike } from './http.js';
export type { MetergateOptions } from './options.js';
export type {
  CustomQuotaOptions, EnforceOptions, ExplainQuery, OnUnreachable, QuotaEnforcer, ReserveOptions,
} from './quota-enforcer.js';
export type { RecordingProblem, RecordingStats } from './recorder.js';
export type { CallFields, SuccessFields, Tracker } from './tracker.js';
export type { ConsumerBy, EventQuery, MultiTenantStats, UsageTracker } from './usage-tracker.js';
export type * from './types/admin.js';
export type * from './types/audit.js';
export type * from './types/quota.js';
export type * from './types/usage.js';
