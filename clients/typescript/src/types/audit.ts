// The audit log: what is written, and how it reads.

import type { DateLike, Timestamp } from './usage.js';

/** What was done. */
export type AuditAction = 'create' | 'update' | 'delete' | 'access' | 'error';
/** Who did it. */
export type ActorType = 'system' | 'admin' | 'tenant' | 'visitor';
/** How it ended. */
export type AuditResult = 'success' | 'failure' | 'partial';

/** What `auditLog` is given beside the event type. */
export interface AuditPayload {
  /** Whose; absent when it concerns no tenant. */
  tenantId?: string;
  /** What it happened to: `trial`, `knowledge_base`, `chat_session`, ... */
  entityType: string;
  /** Which one. */
  entityId?: string;
  /** What was done. */
  action: AuditAction;
  /** By default `system`. */
  actorType?: ActorType;
  /** Who. */
  actorId?: string;
  /** As it was: JSON of any shape. */
  oldValues?: unknown;
  /** As it is now: JSON of any shape. */
  newValues?: unknown;
  /** A sentence for people. */
  changesSummary?: string;
  /** By default `success`. */
  result?: AuditResult;
  /** Of a failure. */
  errorMessage?: string;
  /** Where it came from. */
  ipAddress?: string;
  /** What it came from. */
  userAgent?: string;
  /** The request it belongs to. */
  requestId?: string;
  /** When it happened; by default now. */
  occurredAt?: Date;
  /** The idempotency key, a UUID; by default a new one. */
  eventId?: string;
}

/** An event and its payload, not yet written. */
export interface AuditEntry {
  /** Such as `trial_created`; at most 100 characters. */
  eventType: string;
  /** The rest. */
  payload: AuditPayload;
}

/** One audit event as `POST /api/audit/events` takes it. */
export interface AuditEventInput {
  /** The idempotency key: a UUID. */
  event_id?: string;
  /** Whose. */
  tenant_id?: string;
  /** What happened. */
  event_type: string;
  /** What it happened to. */
  entity_type: string;
  /** Which one. */
  entity_id?: string;
  /** What was done. */
  action: AuditAction;
  /** By default `system`. */
  actor_type?: ActorType;
  /** Who. */
  actor_id?: string;
  /** As it was. */
  old_values?: unknown;
  /** As it is now. */
  new_values?: unknown;
  /** A sentence for people. */
  changes_summary?: string;
  /** By default `success`. */
  result?: AuditResult;
  /** Of a failure. */
  error_message?: string;
  /** Where it came from. */
  ip_address?: string;
  /** What it came from. */
  user_agent?: string;
  /** The request it belongs to. */
  request_id?: string;
  /** When it happened, by the caller's clock. */
  occurred_at?: Timestamp;
}

/** One row of `audit_events`, as it reads now. */
export interface AuditEventRow {
  /** Its UUID. */
  event_id: string;
  /** Its place in the log, from 0 without gaps. */
  index: number;
  /** Whose. */
  tenant_id: string | null;
  /** What happened. */
  event_type: string;
  /** What it happened to. */
  entity_type: string;
  /** Which one. */
  entity_id: string | null;
  /** What was done. */
  action: AuditAction;
  /** By whom. */
  actor_type: ActorType;
  /** By whom. */
  actor_id: string | null;
  /** As it was. */
  old_values: unknown;
  /** As it is now. */
  new_values: unknown;
  /** A sentence for people. */
  changes_summary: string | null;
  /** `resolved` once resolved. */
  result: AuditResult | 'resolved';
  /** Once resolved: as it was written. */
  original_result: AuditResult | null;
  /** Of a failure. */
  error_message: string | null;
  /** Where it came from. */
  ip_address: string | null;
  /** What it came from. */
  user_agent: string | null;
  /** The request it belongs to. */
  request_id: string | null;
  /** When it was recorded, by the server's clock. */
  timestamp: Timestamp;
  /** When it happened, by the caller's clock; null: when it was recorded. */
  occurred_at: Timestamp | null;
  /** The key that wrote it. */
  key_id: string | null;
  /** When it was resolved. */
  resolved_at: Timestamp | null;
  /** What was done about it. */
  resolution_action: string | null;
}

/** Which audit events are wanted: every field that is given must agree. */
export interface AuditFilter {
  /** One event. */
  eventId?: string;
  /** Of a tenant. */
  tenantId?: string;
  /** Of a type. */
  eventType?: string;
  /** Of a kind of entity. */
  entityType?: string;
  /** Of one entity. */
  entityId?: string;
  /** Of an action. */
  action?: AuditAction;
  /** Of a kind of actor. */
  actorType?: ActorType;
  /** Of one actor. */
  actorId?: string;
  /** As it was written, or `resolved`. */
  result?: AuditResult | 'resolved';
  /** From an address. */
  ipAddress?: string;
  /** From an agent. */
  userAgent?: string;
  /** Of a request. */
  requestId?: string;
  /** Recorded at or after. */
  startDate?: DateLike;
  /** Recorded before; a day is included. */
  endDate?: DateLike;
}

/** A page of audit events, newest first. */
export interface AuditPage {
  /** The page. It may be short although more follow. */
  events: AuditEventRow[];
  /** Where to go on; null at the end. */
  next_cursor: string | null;
}

/** A tenant's audit events over a range, counted. */
export interface AuditReport {
  /** Whose. */
  tenant_id: string;
  /** Included. */
  from: Timestamp;
  /** Not included. */
  to: Timestamp;
  /** All of them. */
  total: number;
  /** By event type. */
  by_type: Record<string, number>;
  /** By action. */
  by_action: Partial<Record<AuditAction, number>>;
  /** Those that succeeded. */
  successes: number;
  /** Those that failed, resolved ones included. */
  failures: number;
  /** The newest, at most 1,000. */
  events: AuditEventRow[];
}
