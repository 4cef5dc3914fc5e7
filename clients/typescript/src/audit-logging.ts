// In place of the documented module `@/lib/audit-logging`; configured from the environment.

import type { AuditLogger as Audit } from './audit-logger.js';
import { defaultClient, lazily } from './default-client.js';

export { defaultClient } from './default-client.js';
export type { AuditEventRow, AuditFilter, AuditPayload, AuditReport } from './types/audit.js';

/** The documented AuditLogger. */
export const AuditLogger: Audit = lazily(() => defaultClient().audit);
/** Writes one audit event. */
export const auditLog: Audit['auditLog'] = (...given) => defaultClient().audit.auditLog(...given);
/** What happens to a tenant's trial. */
export const TrialAudit: Audit['TrialAudit'] = lazily(() => defaultClient().audit.TrialAudit);
/** What happens to a knowledge base. */
export const KBaudit: Audit['KBaudit'] = lazily(() => defaultClient().audit.KBaudit);
/** What happens in a chat. */
export const ChatAudit: Audit['ChatAudit'] = lazily(() => defaultClient().audit.ChatAudit);
/** What an administrator sets up. */
export const ConfigAudit: Audit['ConfigAudit'] = lazily(() => defaultClient().audit.ConfigAudit);
/** What went wrong. */
export const ErrorAudit: Audit['ErrorAudit'] = lazily(() => defaultClient().audit.ErrorAudit);
/** Audit events by any field. */
export const getAuditEvents: Audit['getAuditEvents'] = (...given) => defaultClient().audit.getAuditEvents(...given);
/** What happened to a tenant in the last days. */
export const getTenantAuditTrail: Audit['getTenantAuditTrail'] = (...given) => defaultClient().audit.getTenantAuditTrail(...given);
/** What failed. */
export const getFailedOperations: Audit['getFailedOperations'] = (...given) => defaultClient().audit.getFailedOperations(...given);
/** Violations, exceeded quotas and unauthorized accesses. */
export const getSecurityEvents: Audit['getSecurityEvents'] = (...given) => defaultClient().audit.getSecurityEvents(...given);
/** A tenant's audit events over a range, counted. */
export const generateAuditReport: Audit['generateAuditReport'] = (...given) => defaultClient().audit.generateAuditReport(...given);
/** Marks an audit event as resolved, once. */
export const resolveAuditEvent: Audit['resolveAuditEvent'] = (...given) => defaultClient().audit.resolveAuditEvent(...given);
