// AuditLogger: writing the audit log in the background, reading it, resolving and reporting.

import { randomUUID } from 'node:crypto';

import { ChatAudit, ConfigAudit, ErrorAudit, KBaudit, TrialAudit } from './audit-builders.js';
import { messageOf } from './errors.js';
import type { Transport } from './http.js';
import type { Recorder } from './recorder.js';
import type {
  AuditEntry, AuditEventInput, AuditEventRow, AuditFilter, AuditPage, AuditPayload, AuditReport,
} from './types/audit.js';
import type { DateLike, Recorded } from './types/usage.js';

/** Which page of the audit log is wanted. */
export interface AuditQuery extends AuditFilter {
  /** 1 to 1,000; by default 100. */
  limit?: number;
  /** The last page's `next_cursor`, with the same other fields. */
  cursor?: string;
}

const DAY_MS = 86_400_000;
const PAGE_MAX = 1_000;
const SECURITY_DAYS = 30;
const SECURITY_EVENT_TYPES = ['security_violation', 'quota_exceeded', 'unauthorized_access'] as const;

/** The documented AuditLogger. Its methods may be taken off it: they need no `this`. */
export class AuditLogger {
  readonly #transport: Transport;
  readonly #recorder: Recorder;
  readonly #timeoutMs: number;
  /** What happens to a tenant's trial. */
  readonly TrialAudit: TrialAudit;
  /** What happens to a knowledge base. */
  readonly KBaudit: KBaudit;
  /** What happens in a chat. */
  readonly ChatAudit: ChatAudit;
  /** What an administrator sets up. */
  readonly ConfigAudit: ConfigAudit;
  /** What went wrong. */
  readonly ErrorAudit: ErrorAudit;

  /** Made by its client. @internal */
  constructor(transport: Transport, recorder: Recorder, timeoutMs: number) {
    this.#transport = transport;
    this.#recorder = recorder;
    this.#timeoutMs = timeoutMs;
    const write = ({ eventType, payload }: AuditEntry): Promise<string> => this.auditLog(eventType, payload);
    this.TrialAudit = new TrialAudit(write);
    this.KBaudit = new KBaudit(write);
    this.ChatAudit = new ChatAudit(write);
    this.ConfigAudit = new ConfigAudit(write);
    this.ErrorAudit = new ErrorAudit(write);
  }

  /**
   * Writes one audit event in the background, as trackers record: it resolves with the event's id when the event is on the
   * server's disk, or after `timeoutMs` at the latest, and never rejects.
   */
  readonly auditLog = async (eventType: string, payload: AuditPayload): Promise<string> => {
    const event = inputOf(eventType, payload);
    try {
      JSON.stringify(event);
    } catch (error) {
      const message = `the values of ${eventType} are no JSON (${messageOf(error)}), and were left out`;
      this.#recorder.report({ kind: 'invalid', message, count: 1, event });
      delete event.old_values;
      delete event.new_values;
    }
    await this.#recorder.audit(event);
    return event.event_id;
  };

  /** Writes audit events in the foreground, at most 1,000 at once; fails when the server does. */
  readonly recordAuditEvents = (events: AuditEventInput | readonly AuditEventInput[]): Promise<Recorded> =>
    this.#transport.get({ method: 'POST', path: '/api/audit/events', body: events, timeoutMs: this.#timeoutMs });

  /** One page of the audit log, newest first. */
  readonly getAuditEventsPage = (query: AuditQuery = {}): Promise<AuditPage> =>
    this.#transport.get({
      method: 'GET', path: '/api/audit/events', timeoutMs: this.#timeoutMs,
      query: {
        event_id: query.eventId,
        tenant_id: query.tenantId,
        event_type: query.eventType,
        entity_type: query.entityType,
        entity_id: query.entityId,
        action: query.action,
        actor_type: query.actorType,
        actor_id: query.actorId,
        result: query.result,
        ip_address: query.ipAddress,
        user_agent: query.userAgent,
        request_id: query.requestId,
        startDate: query.startDate,
        endDate: query.endDate,
        limit: query.limit,
        cursor: query.cursor,
      },
    });

  /** The newest audit events that agree with the filter, over as many pages as that takes. */
  readonly getAuditEvents = async (filter: AuditFilter = {}, limit = 100): Promise<AuditEventRow[]> => {
    const events: AuditEventRow[] = [];
    let cursor: string | undefined;
    do {
      const size = Math.min(PAGE_MAX, limit - events.length);
      const page = await this.getAuditEventsPage({ ...filter, limit: size, ...(cursor === undefined ? {} : { cursor }) });
      events.push(...page.events);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined && events.length < limit);
    return events;
  };

  /** What happened to a tenant in the last days. */
  readonly getTenantAuditTrail = (tenantId: string, days = 7, limit = 50): Promise<AuditEventRow[]> =>
    this.getAuditEvents({ tenantId, startDate: daysAgo(days) }, limit);

  /** What failed and is not resolved, of one tenant or of all. */
  readonly getFailedOperations = (tenantId?: string, limit = 50): Promise<AuditEventRow[]> =>
    this.getAuditEvents({ result: 'failure', ...(tenantId === undefined ? {} : { tenantId }) }, limit);

  /** Violations, exceeded quotas and unauthorized accesses of the last 30 days, of one tenant or of all. */
  readonly getSecurityEvents = async (tenantId?: string, limit = 50): Promise<AuditEventRow[]> => {
    const filter = { startDate: daysAgo(SECURITY_DAYS), ...(tenantId === undefined ? {} : { tenantId }) };
    const lists = await Promise.all(SECURITY_EVENT_TYPES.map((eventType) => this.getAuditEvents({ ...filter, eventType }, limit)));
    return lists.flat().sort((one, other) => other.index - one.index).slice(0, limit);
  };

  /** A tenant's audit events over a range, counted; by default the last 30 days. */
  readonly generateAuditReport = (tenantId: string, from?: DateLike, to?: DateLike): Promise<AuditReport> =>
    this.#transport.get({
      method: 'GET', path: '/api/audit/report', timeoutMs: this.#timeoutMs,
      query: { tenant_id: tenantId, startDate: from, endDate: to },
    });

  /** Marks an audit event as resolved, once: false when it was resolved before. `tenantId` where several share the id. */
  readonly resolveAuditEvent = async (eventId: string, resolutionAction: string, tenantId?: string): Promise<boolean> => {
    const answer = await this.#transport.get<{ resolved: boolean }>({
      method: 'POST', path: `/api/audit/events/${encodeURIComponent(eventId)}/resolve`, timeoutMs: this.#timeoutMs,
      body: { resolution_action: resolutionAction, tenant_id: tenantId },
    });
    return answer.resolved;
  };
}

function inputOf(eventType: string, payload: AuditPayload): AuditEventInput & { event_id: string } {
  const fields = {
    tenant_id: payload.tenantId,
    entity_id: payload.entityId,
    actor_type: payload.actorType,
    actor_id: payload.actorId,
    old_values: payload.oldValues,
    new_values: payload.newValues,
    changes_summary: payload.changesSummary,
    result: payload.result,
    error_message: payload.errorMessage,
    ip_address: payload.ipAddress,
    user_agent: payload.userAgent,
    request_id: payload.requestId,
  };
  return {
    ...(Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Partial<AuditEventInput>),
    event_id: payload.eventId ?? randomUUID(),
    event_type: eventType,
    entity_type: payload.entityType,
    action: payload.action,
    // Delivery may take a while: when it happened is said here.
    occurred_at: (payload.occurredAt ?? new Date()).toISOString(),
  };
}

function daysAgo(days: number): Date {
  return new Date(Date.now() - days * DAY_MS);
}
