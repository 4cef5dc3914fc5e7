// Quotas: requests, decisions and states. The documented utilities speak camelCase.

import type { Timestamp } from './usage.js';

/** What is limited. `cost` is in US dollars, all others are whole numbers. */
export type QuotaType = 'tokens' | 'api_calls' | 'chat_messages' | 'embeddings' | 'cost';

/** Over which time. */
export type QuotaWindow = 'minute' | 'day' | 'month';

/** How much: a whole number of at most 10^15; of `cost` also a decimal text, which keeps every digit. */
export type Amount = number | bigint | string;

/** One amount that is asked for. */
export interface QuotaItem {
  /** Of what. */
  type: QuotaType;
  /** How much. */
  amount: Amount;
}

/** A limit that said no. Figures of `cost` are doubles: 15 significant digits. */
export interface DeniedBy {
  /** Of what. */
  quotaType: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** Whose limit. Of the platform's ceilings there are no figures: those are other tenants' business. */
  scope: 'tenant' | 'platform';
  /** The limit. */
  limit?: number | null;
  /** Used up so far. */
  used?: number;
  /** Held by open reservations. */
  held?: number;
  /** What is left; -1 is unlimited. */
  remaining?: number;
  /** When the window ends. */
  resetsAt: Timestamp;
  /** What was asked for. */
  asked: number;
}

/** What every answer about quotas may say beside yes or no. */
export interface DecisionDetails {
  /** Why not; also set when the server did not answer and `onUnreachable` decided. */
  error?: string;
  /** `quota_exceeded`, `unreachable`, or the server's code of a refused tenant (`plan_expired`, ...). */
  code?: string;
  /** The limits that denied. */
  deniedBy?: DeniedBy[];
  /** Limits in observe mode that would have denied. */
  wouldDeny?: DeniedBy[];
  /** When it can fit; absent when waiting cannot help. */
  retryAfterSeconds?: number;
  /** Names a denial for `explainDenial`. */
  decisionId?: string;
}

/** The documented answer of `enforceQuota`. */
export interface QuotaCheckResult extends DecisionDetails {
  /**
   * Whether the work may be done. Reading it ties the hold to the async flow that reads it, so that this flow's tracker
   * settles this very hold.
   */
  readonly allowed: boolean;
  /** What is left, of whatever type was asked for; -1 is unlimited, and unknown when the server did not answer. */
  tokensRemaining: number;
  /** The limit; null is unlimited, or unknown when the server did not answer. */
  quotaLimit: number | null;
}

/** The answer for one type of several. */
export interface TypeResult {
  /** Whether this type fits. */
  allowed: boolean;
  /** What is left; -1 is unlimited. */
  tokensRemaining: number;
  /** The limit; null is unlimited. */
  quotaLimit: number | null;
  /** Why not. */
  error?: string;
}

/** The documented answer of `enforceMultipleQuotas`: all or nothing. */
export interface MultipleQuotaResult extends DecisionDetails {
  /** Whether all fit. Reading it ties the hold, as `QuotaCheckResult.allowed` does. */
  readonly allowed: boolean;
  /** By type; empty when the server did not answer. */
  results: Partial<Record<QuotaType, TypeResult>>;
}

/** The answer of an explicit `reserve`. */
export interface ReserveResult extends DecisionDetails {
  /** Whether it was granted. */
  allowed: boolean;
  /** The handle for `settle` and `release`. */
  reservationId: string;
  /** When it lapses; absent when denied. */
  expiresAt?: Timestamp;
  /** By type. */
  results: Partial<Record<QuotaType, TypeResult>>;
}

/** One limit, looked at. Figures of `cost` are doubles: 15 significant digits. */
export interface QuotaState {
  /** Of what. */
  quotaType: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** The limit; null is unlimited. */
  limit: number | null;
  /** Used up so far. */
  used: number;
  /** Held by open reservations. */
  held: number;
  /** What is left; -1 is unlimited. */
  remaining: number;
  /** Percent of the limit that is used. */
  percentage: number;
  /** When the window ends. */
  resetsAt: Timestamp;
  /** The percentages of a day or month limit that are told when use reaches them. */
  thresholds?: number[];
  /** Those that use has reached in the current window. */
  thresholdsCrossed?: number[];
}

/** The documented answer of `getQuotaStatus`. */
export interface QuotaStatus {
  /** The plan's name. */
  plan: string;
  /** What the tenant may do: `active`, `expired`, `suspended` or `cancelled`. */
  status: TenantStatus;
  /** Each type in its documented window. */
  quotas: Record<QuotaType, QuotaState>;
  /** Every limit in force. */
  limits: QuotaState[];
  /** Whether any limit is used up. */
  anyExceeded: boolean;
}

/** What a tenant may do. */
export type TenantStatus = 'active' | 'expired' | 'suspended' | 'cancelled' | 'deleted';

/** A limit that said no, as the HTTP API shows it. */
export interface DeniedByJson {
  /** Of what. */
  quota_type: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** Whose limit; absent is the tenant's. */
  scope?: 'tenant' | 'platform';
  /** The limit; absent for the platform's, as are the next three. */
  limit?: number | null;
  /** Used up. */
  used?: number;
  /** Held. */
  held?: number;
  /** Left; -1 is unlimited. */
  remaining?: number;
  /** When the window ends. */
  resets_at: Timestamp;
  /** What was asked for. */
  asked: number;
}

/** The answer for one type, as the HTTP API shows it. */
export interface TypeResultJson {
  /** Whether it fits. */
  allowed: boolean;
  /** Left; -1 is unlimited. */
  tokens_remaining: number;
  /** The limit; null is unlimited. */
  quota_limit: number | null;
  /** Why not. */
  error?: string;
}

/** A decision as the HTTP API shows it. */
export interface DecisionJson {
  /** Whether everything asked for is granted. */
  allowed: boolean;
  /** Of a granted reserve. */
  reservation_id?: string;
  /** Of a granted reserve. */
  expires_at?: Timestamp;
  /** Of the single form. */
  tokens_remaining?: number;
  /** Of the single form. */
  quota_limit?: number | null;
  /** By type. */
  results?: Partial<Record<QuotaType, TypeResultJson>>;
  /** Why not. */
  error?: string;
  /** `quota_exceeded`. */
  code?: string;
  /** The limits that denied. */
  denied_by?: DeniedByJson[];
  /** Limits in observe mode that would have. */
  would_deny?: DeniedByJson[];
  /** When it can fit. */
  retry_after_seconds?: number;
  /** Names a denial. */
  decision_id?: string;
}

/** One limit as the HTTP API shows it. */
export interface QuotaStateJson {
  /** Of what. */
  quota_type: QuotaType;
  /** Over which time. */
  window: QuotaWindow;
  /** The limit; null is unlimited. */
  limit: number | null;
  /** Used up. */
  used: number;
  /** Held. */
  held: number;
  /** Left; -1 is unlimited. */
  remaining: number;
  /** Percent used. */
  percentage: number;
  /** When the window ends. */
  resets_at: Timestamp;
  /** The percentages that are told when use reaches them. */
  thresholds?: number[];
  /** Those that use has reached in the current window. */
  thresholds_crossed?: number[];
}

/** A tenant's quotas as the HTTP API shows them. */
export interface QuotaStatusJson {
  /** The plan's name. */
  plan: string;
  /** What the tenant may do. */
  status: TenantStatus;
  /** Each type in its documented window. */
  quotas: Record<QuotaType, QuotaStateJson>;
  /** Every limit in force. */
  limits: QuotaStateJson[];
  /** Whether any limit is used up. */
  anyExceeded: boolean;
}

/** A denial as it was noted. */
export interface DenialJson {
  /** What the caller was answered; null where one record stands for many. */
  decision_id: string | null;
  /** The id of the request. */
  request_id: string | null;
  /** When. */
  at: Timestamp;
  /** Whether it was granted all the same, by a limit that only observes. */
  observed: boolean;
  /** How many denials the record stands for. */
  denials: number;
  /** The limit that said no, and its state then. */
  denied_by: DeniedByJson;
}

/** What one of many had used of a window. */
export interface UsageShareJson {
  /** Null for what names none. */
  name: string | null;
  /** Its events. */
  events: number;
  /** What they charged. */
  amount: number;
  /** Percent of all. */
  percentage: number;
}

/** Why a request was denied, and what had led to it. */
export interface ExplanationJson {
  /** Whose request. */
  tenant_id: string;
  /** The answer in a sentence. */
  explanation: string;
  /** The denial. */
  denial: DenialJson;
  /** What had used the window until then. */
  usage: {
    /** Where the window began. */
    from: Timestamp;
    /** The instant of the denial. */
    to: Timestamp;
    /** Events that charged something. */
    events: number;
    /** What they charged. */
    amount: number;
    /** Whether every raw event was looked at. */
    complete: boolean;
    /** The largest by event type. */
    event_types: UsageShareJson[];
    /** The largest by model. */
    models: UsageShareJson[];
    /** The largest by chat session. */
    sessions: UsageShareJson[];
  };
  /** Holds that were open then, the largest first. */
  holds: {
    /** Null for an anonymous one. */
    reservation_id: string | null;
    /** What it held of the denied type. */
    amount: number;
    /** Since when. */
    granted_at: Timestamp;
    /** Until when at most. */
    expires_at: Timestamp;
  }[];
  /** Further denials that fit the question; at most 20. */
  others: DenialJson[];
}
