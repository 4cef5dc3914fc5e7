// What the admin routes take and answer, by the names of the HTTP API.

import type { QuotaStateJson, QuotaStatusJson, QuotaType, QuotaWindow, TenantStatus } from './quota.js';
import type {
  DateLike, EventRow, ExceedingTenant, Period, Timestamp, TopConsumer, UsageRow, UsageSummary,
} from './usage.js';

/** Whether limits deny, or only list what they would have denied. */
export type Mode = 'enforce' | 'observe';

/** A tenant's own limit. */
export interface QuotaOverride {
  /** Of what. */
  quota_type: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** Null is unlimited. */
  limit: number | null;
  /** Why. */
  reason: string | null;
  /** Until when. */
  until: Timestamp | null;
  /** Since when. */
  set_at: Timestamp;
}

/** One tenant, as administered. */
export interface Tenant {
  /** Its id. */
  tenant_id: string;
  /** Its name. */
  name: string | null;
  /** Its labels. */
  labels: Record<string, string>;
  /** Its plan. */
  plan: string;
  /** When the plan runs out; null is never. */
  plan_expires_at: Timestamp | null;
  /** How many changes of prices of its own it has; `GET /api/admin/tenants/{tenant}/prices` shows them. */
  price_terms: number;
  /** An IANA name: whose midnight begins its quota day. */
  zone: string;
  /** Now: an active tenant whose plan has run out reads `expired`. */
  status: TenantStatus;
  /** Whether its limits deny. */
  mode: Mode;
  /** Its own percentages of a limit that are told; null: its plan's. */
  thresholds?: number[] | null;
  /** Its own limits. */
  overrides: QuotaOverride[];
  /** When it was registered. */
  created_at: Timestamp;
  /** When it last changed. */
  updated_at: Timestamp;
}

/** What a change of a tenant sets; what is not named stays. */
export interface TenantChange {
  /** Its name. */
  name?: string;
  /** Its labels, all of them. */
  labels?: Record<string, string>;
  /** A plan that exists. */
  plan?: string;
  /** Null is never. */
  plan_expires_at?: Timestamp | null;
  /** An IANA name. */
  zone?: string;
  /** `deleted` is set by deleting. */
  status?: Exclude<TenantStatus, 'deleted'>;
  /** Whether its limits deny. */
  mode?: Mode;
  /** The percentages of a limit that are told; null: its plan's. */
  thresholds?: readonly number[] | null;
}

/** A page of tenants, in order of their ids. */
export interface TenantPage {
  /** The page. */
  tenants: Tenant[];
  /** Where to go on (`after`); null at the end. */
  next_cursor: string | null;
  /** How many there are in all. */
  total: number;
}

/** Which tenants are wanted. */
export interface TenantQuery {
  /** In id or name. */
  search?: string;
  /** On a plan. */
  plan?: string;
  /** With a status. */
  status?: TenantStatus;
  /** With a label: `name`, or `name=value`. */
  label?: string;
  /** 1 to 1,000; by default 100. */
  limit?: number;
  /** The last page's `next_cursor`, with the same other fields. */
  after?: string;
}

/** A limit of a plan. */
export interface PlanLimit {
  /** Of what. */
  quota_type: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** How much; of cost also a decimal text. */
  limit: number | string;
  /** By default the plan's. */
  mode?: Mode;
}

/** A plan; what it does not name is unlimited. */
export interface Plan {
  /** Its name. */
  name: string;
  /** Its limits. */
  limits: PlanLimit[];
  /** The percentages of a limit that are told when use reaches them. */
  thresholds?: number[];
}

/** What a plan is made of. */
export interface PlanChange {
  /** Its limits, all of them. */
  limits: readonly PlanLimit[];
  /** Of the limits that name none. */
  mode?: Mode;
  /** The percentages that are told; by default the usual ones. */
  thresholds?: readonly number[];
}

/** A plan that was changed, or would be. */
export interface PlanChanged {
  /** As it is now, or would be. */
  plan: Plan;
  /** False for a dry run. */
  applied: boolean;
  /** What it means for the tenants on it. */
  effect: {
    /** How many there are. */
    tenants: number;
    /** How many had used up a limit before. */
    exceeded_before: number;
    /** How many have by the new limits. */
    exceeded_after: number;
  };
}

/** A range of usage; by default the last 30 days. */
export interface UsageRange {
  /** Included. */
  startDate?: DateLike;
  /** Not included; a day is included. */
  endDate?: DateLike;
}

/** What `GET /api/admin/usage` is asked. */
export interface AdminUsageQuery extends UsageRange {
  /** By default daily. */
  period?: Period;
  /** By default all. */
  metric?: 'all' | 'tokens' | 'cost' | 'api_calls';
  /** Of top consumers: 1 to 100, by default 10. */
  limit?: number;
}

/** Everything about one tenant. */
export interface AdminTenantUsage {
  /** Who. */
  tenantId: string;
  /** The rows' length. */
  period: Period;
  /** Rows, newest first. */
  usage: UsageRow[];
  /** Its quotas now. */
  quota: QuotaStatusJson;
  /** At most 50, newest first. */
  recentEvents: EventRow[];
  /** When it was answered. */
  timestamp: Timestamp;
}

/** Usage over all tenants. */
export interface AdminUsage {
  /** The rows' length. */
  period: Period;
  /** For metric `all` and `tokens`. */
  summary?: UsageSummary;
  /** In the order of the metric. */
  topConsumers: TopConsumer[];
  /** For metric `all` and `tokens`. */
  exceedingQuota?: ExceedingTenant[];
  /** When it was answered. */
  timestamp: Timestamp;
}

/** Whether usage flows in and is aggregated. */
export interface AggregationHealth {
  /** `healthy`. */
  status: string;
  /** Events of the last 24 hours. */
  recentEvents: number;
  /** Daily rows of the current UTC day. */
  recentMetrics: number;
  /** When it was answered. */
  timestamp: Timestamp;
}

/** What the cron job's door did. */
export interface AggregationRun {
  /** True. */
  success: boolean;
  /** A sentence. */
  message: string;
  /** When it was answered. */
  timestamp: Timestamp;
  /** Metrics rows written. */
  rows_aggregated: number;
  /** Raw events removed. */
  realtime_events_removed: number;
  /** Audit events removed. */
  audit_events_removed: number;
}

/** What is wrong now. */
export interface Alarm {
  /** A stable code. */
  code: string;
  /** A sentence. */
  message: string;
}

/** A job and its last run. */
export interface JobStatus {
  /** Its name. */
  job: string;
  /** Cron text in UTC. */
  schedule: string | null;
  /** Whether it runs now. */
  running: boolean;
  /** When it last began. */
  last_started: Timestamp | null;
  /** When it last ended. */
  last_finished: Timestamp | null;
  /** How it ended. */
  result: string | null;
  /** Rows it wrote or removed. */
  rows: number | null;
  /** Why it failed. */
  error: string | null;
  /** When it last succeeded. */
  last_success: Timestamp | null;
  /** Failures since then. */
  failures: number;
  /** When it runs next. */
  next_run: Timestamp | null;
  /** Runs refused because one was going on. */
  overlaps_refused: number;
}

/** A job that can be run by hand. */
export type JobRequest =
  | {
    /** Folds events into rows. */
    job: 'aggregate_usage_metrics';
    /** A day or a time. */
    from?: string;
    /** A day (included) or a time. */
    to?: string;
  }
  | {
    /** Removes what retention allows, or confirms the clock. */
    job: 'cleanup_old_realtime_events' | 'cleanup_old_audit_events' | 'confirm_clock';
  };

/** What a job did. */
export interface JobRun {
  /** Its name. */
  job: string;
  /** Of the aggregation. */
  rows_written?: number;
  /** Of the aggregation: hours above which events are gone. */
  hours_skipped?: number;
  /** Of a clean-up. */
  rows_removed?: number;
  /** Of a clean-up: what is older is gone. */
  cut?: Timestamp | null;
  /** Of the clock's confirmation. */
  was_waiting?: boolean;
}

/** The server on one screen. */
export interface ServerStatus {
  /** The server's version. */
  version: string;
  /** Since its start. */
  uptime_seconds: number;
  /** Its time. */
  timestamp: Timestamp;
  /** Whether writes are possible. */
  ready: boolean;
  /** Tenants registered. */
  tenants: number;
  /** Events of the UTC day. */
  events_today: number;
  /** Of them: without a price. */
  unpriced_events_today: number;
  /** Of the data folder. */
  format_version: number;
  /** Above 40 new events wait. */
  unfiled_generations: number;
  /** Bytes on disk. */
  store_file_bytes: number;
  /** What the disk of the data folder has left; null where it cannot be told. */
  store_free_bytes: number | null;
  /** How often a store that failed was opened again. */
  store_reopened: number;
  /** The platform's ceilings. */
  platform?: QuotaStateJson[];
  /** What is wrong now. */
  alarms: Alarm[];
  /** Jobs and their last runs. */
  jobs: JobStatus[];
}

/** What verification found. */
export interface Verification {
  /** Events looked at. */
  events: number;
  /** Rows looked at. */
  rows: number;
  /** At most 1,000. */
  differences: {
    /** Where. */
    what: string;
    /** As stored. */
    stored: string;
    /** As it should be. */
    recomputed: string;
  }[];
  /** All of them. */
  differences_total: number;
}

/** What a key may do: everything; record, reserve and write audit; help tenants; read. */
export type KeyRole = 'admin' | 'service' | 'support' | 'viewer';

/** One key, without its secret. */
export interface ApiKey {
  /** Its id; `admin-key` is the built-in one. */
  key_id: string;
  /** Whose it is: a person's or a service's name. */
  name: string;
  /** What it may do. */
  role: KeyRole;
  /** Null is all. */
  tenants: string[] | null;
  /** Whether it works. */
  status: 'active' | 'expired' | 'revoked';
  /** Whether it is the key of the data folder or the environment. */
  built_in: boolean;
  /** By which key. */
  created_by: string;
  /** Null for the built-in one. */
  created_at: Timestamp | null;
  /** Null is never. */
  expires_at: Timestamp | null;
  /** When it was revoked. */
  revoked_at: Timestamp | null;
  /** When it was last used. */
  last_used_at: Timestamp | null;
  /** The key it was made in place of. */
  replaces: string | null;
  /** The key that was made in its place. */
  replaced_by: string | null;
}

/** A key just made. */
export interface MadeKey extends ApiKey {
  /** What its holder shows. It is not kept: this is the only time it is seen. */
  key: string;
  /** Of a rotation: when the old key ends. */
  old_key_expires_at?: Timestamp;
}

/** What a new key is to be. */
export interface KeyRequest {
  /** Whose it is. */
  name: string;
  /** What it may do. */
  role: KeyRole;
  /** By default all. */
  tenants?: readonly string[];
  /** By default never. */
  expires_at?: Timestamp;
}

/** A page of keys, in order of creation. */
export interface KeyPage {
  /** The page. */
  keys: ApiKey[];
  /** Where to go on; null at the end. */
  next_cursor: string | null;
}

/** Which alerts are wanted. */
export interface AlertQuery {
  /** Of a tenant. */
  tenantId?: string;
  /** Recorded at or after. */
  startDate?: DateLike;
  /** Recorded before; a day is included. */
  endDate?: DateLike;
  /** 1 to 1,000; by default 100. */
  limit?: number;
  /** The last page's `next_cursor`, with the same other fields. */
  cursor?: string;
}

/** A threshold of a limit that was crossed. */
export interface Alert {
  /** The id of its audit record. */
  event_id: string;
  /** Whose limit. */
  tenant_id: string;
  /** Of what. */
  quota_type: QuotaType;
  /** Over which time: a day or a month. */
  window: QuotaWindow;
  /** When that day or month began. */
  window_start: Timestamp;
  /** The threshold, in percent of the limit. */
  percent: number;
  /** The limit then. */
  limit: number;
  /** What was used when it was noticed. */
  used: number;
  /** Whether the limit denies. */
  mode: Mode;
  /** When it was noticed. */
  at: Timestamp;
}

/** A page of alerts, newest first. */
export interface AlertPage {
  /** The page. */
  alerts: Alert[];
  /** Where to go on; null at the end. */
  next_cursor: string | null;
}

/** Body of an error answer. */
export interface ErrorBody {
  /** A sentence for people. */
  error: string;
  /** A stable code. */
  code?: string;
  /** Such as `{field}`. */
  details?: Record<string, unknown>;
}
