// UsageTracker: tracking calls, and reading what was used.

import type { Transport } from './http.js';
import type { Recorder } from './recorder.js';
import { type CallFields, Tracker } from './tracker.js';
import type { AdminUsage, UsageRange } from './types/admin.js';
import type {
  ConsumerMetric, DateLike, EventPage, EventRow, EventType, ExceedingTenant, Metadata, Period, Recorded, TenantUsage,
  TopConsumer, UsageEvent, UsageRow, UsageSummary,
} from './types/usage.js';

/** Totals over all tenants, and the largest by tokens. */
export interface MultiTenantStats extends UsageSummary {
  /** At most `limit` of them. */
  top_consumers: TopConsumer[];
}

/** Which page of a tenant's events is wanted. */
export interface EventQuery extends UsageRange {
  /** Of one type. */
  eventType?: EventType;
  /** 1 to 1,000; by default 100. */
  limit?: number;
  /** The last page's `next_cursor`, with the same other fields. */
  cursor?: string;
}

/** A row of top consumers by one metric. */
export type ConsumerBy<M extends ConsumerMetric> = Pick<TopConsumer, 'tenant_id'> & Required<Pick<TopConsumer, {
  tokens: 'total_tokens_used'; cost: 'estimated_cost_usd'; api_calls: 'api_calls_total';
}[M]>>;

/** The most events of one page. */
const PAGE_MAX = 1_000;

/** The documented UsageTracker. Its methods may be taken off it: they need no `this`. */
export class UsageTracker {
  readonly #transport: Transport;
  readonly #recorder: Recorder;
  readonly #timeoutMs: number;

  /** Made by its client. @internal */
  constructor(transport: Transport, recorder: Recorder, timeoutMs: number) {
    this.#transport = transport;
    this.#recorder = recorder;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Starts tracking one call. The tracker settles the holds that this async flow got from `enforceQuota` for the tenant:
   * the newest of each quota type, each hold once.
   */
  readonly trackUsage = (tenantId: string, eventType: EventType, metadata: Metadata = {}, fields: CallFields = {}): Tracker =>
    new Tracker(this.#recorder, tenantId, eventType, metadata, fields);

  /** Records events in the foreground; fails when the server does. At most 10,000 at once; give each an `event_id`. */
  readonly recordEvents = (events: UsageEvent | readonly UsageEvent[]): Promise<Recorded> =>
    this.#transport.get({ method: 'POST', path: '/api/usage/events', body: events, timeoutMs: this.#timeoutMs });

  /** A tenant's metrics rows, newest first; grouped by model, each with its parts. */
  readonly getTenantUsage = async (
    tenantId: string, from?: DateLike, to?: DateLike, period: Period = 'daily', options: { groupBy?: 'model' } = {},
  ): Promise<UsageRow[]> => {
    const query = { period, startDate: from, endDate: to, group_by: options.groupBy };
    return (await this.#read<TenantUsage>(`/api/usage/${encodeURIComponent(tenantId)}`, query)).usage;
  };

  /** The row of the server's current UTC day, exact up to now; all zero before its first event. */
  readonly getTodayUsage = async (tenantId: string): Promise<UsageRow> => {
    const path = `/api/usage/${encodeURIComponent(tenantId)}/today`;
    return (await this.#read<{ usage: UsageRow }>(path, {})).usage;
  };

  /** A tenant's raw events, newest first, over as many pages as that takes. */
  readonly getTenantEvents = async (
    tenantId: string, from?: DateLike, to?: DateLike, eventType?: EventType, limit = 1_000,
  ): Promise<EventRow[]> => {
    const events: EventRow[] = [];
    let cursor: string | undefined;
    do {
      const page = await this.getTenantEventsPage(tenantId, {
        limit: Math.min(PAGE_MAX, limit - events.length),
        ...(from === undefined ? {} : { startDate: from }),
        ...(to === undefined ? {} : { endDate: to }),
        ...(eventType === undefined ? {} : { eventType }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      events.push(...page.events);
      cursor = page.next_cursor ?? undefined;
    } while (cursor !== undefined && events.length < limit);
    return events;
  };

  /** One page of a tenant's raw events. */
  readonly getTenantEventsPage = (tenantId: string, query: EventQuery = {}): Promise<EventPage> => {
    const { eventType, ...others } = query;
    return this.#read(`/api/usage/${encodeURIComponent(tenantId)}/events`, { ...others, event_type: eventType });
  };

  /** Totals over all tenants, with the `limit` largest by tokens. Needs an admin key. */
  readonly getMultiTenantStats = async (period: Period = 'daily', limit = 10, range: UsageRange = {}): Promise<MultiTenantStats> => {
    const { summary, topConsumers } = await this.#overview({ period, limit, metric: 'all', ...range });
    if (summary === undefined) {
      throw new TypeError('the answer has no summary');
    }
    return { ...summary, top_consumers: topConsumers };
  };

  /** The largest consumers, each with the figure they are ordered by. Needs an admin key. */
  readonly getTopConsumers = async <M extends ConsumerMetric>(
    metric: M, period: Period = 'daily', limit = 10, range: UsageRange = {},
  ): Promise<ConsumerBy<M>[]> => {
    const { topConsumers } = await this.#overview({ period, limit, metric, ...range });
    return topConsumers as ConsumerBy<M>[];
  };

  /** Tenants at or over a limit, or denied in the range. Needs an admin key. */
  readonly getTenantExceedingQuota = async (period: Period = 'daily', range: UsageRange = {}): Promise<ExceedingTenant[]> => {
    const { exceedingQuota } = await this.#overview({ period, metric: 'all', ...range });
    return exceedingQuota ?? [];
  };

  #overview(query: Record<string, DateLike | number | undefined>): Promise<AdminUsage> {
    return this.#read('/api/admin/usage', query);
  }

  #read<T>(path: string, query: Record<string, DateLike | number | undefined>): Promise<T> {
    return this.#transport.get<T>({ method: 'GET', path, query, timeoutMs: this.#timeoutMs });
  }
}
