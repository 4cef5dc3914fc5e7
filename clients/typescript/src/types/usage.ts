// Usage as the HTTP API shows it: rows and events keep their columns' names.

/** A time as RFC 3339 text in UTC, such as `2026-11-24T14:03:00Z`. */
export type Timestamp = string;

/** A day (`2026-11-24`, as an end included) or a time (RFC 3339 text, or a `Date`). */
export type DateLike = string | Date;

/** US dollars as decimal text with every digit, such as `0.000000000000123`. Never through a float. */
export type Money = string;

/** A JSON object of the caller's own; at most 4 KiB as JSON. Never put prompts or answers in it. */
export type Metadata = Record<string, unknown>;

/** Event types that the server gives a meaning; any other text of at most 50 characters counts as an API call. */
export type EventType = 'api_call' | 'chat_message' | 'embedding' | 'search' | 'kb_ingest' | (string & {});

/** The length of the periods that usage is aggregated by. */
export type Period = 'hourly' | 'daily' | 'monthly';

/** What top consumers are ordered by. */
export type ConsumerMetric = 'tokens' | 'cost' | 'api_calls';

/** One usage event as `POST /api/usage/events` takes it. */
export interface UsageEvent {
  /** 1 to 128 of `A-Z a-z 0-9 . _ : @ -`. */
  tenant_id: string;
  /** What happened. */
  event_type: EventType;
  /** The idempotency key, unique in its tenant: a repeat counts once. */
  event_id?: string;
  /** When it happened; by default when it is recorded. */
  event_timestamp?: Timestamp;
  /** At most 10 characters. */
  api_method?: string;
  /** At most 255 characters. */
  api_endpoint?: string;
  /** 100 to 599. */
  api_status_code?: number;
  /** Whole milliseconds. */
  api_response_time_ms?: number;
  /** At most 128 characters. */
  chat_session_id?: string;
  /** The model's name. */
  model?: string;
  /** Of an embedding; by default `tokens_consumed`. */
  embedding_tokens?: number;
  /** Of a search; by default `tokens_consumed`. */
  search_query_tokens?: number;
  /** Of a search. */
  search_result_count?: number;
  /** By default `input_tokens + output_tokens`. */
  tokens_consumed?: number;
  /** Cached ones included. */
  input_tokens?: number;
  /** Part of `input_tokens`. */
  cached_input_tokens?: number;
  /** Reasoning included. */
  output_tokens?: number;
  /** Part of `output_tokens`. */
  reasoning_tokens?: number;
  /** US dollars; a text keeps every digit. */
  cost_usd?: Money | number;
  /** The provider's name, such as `openai`. */
  provider?: string;
  /** The provider's own usage object, whole: the server reads the counts out of it. It stands instead of token counts. */
  usage?: object;
  /** Anything else, as a JSON object of at most 4 KiB. */
  metadata?: Metadata;
}

/** One event that was not recorded. */
export interface RejectedEvent {
  /** Its place in the batch, from 0. */
  index: number;
  /** A stable code. */
  code: string;
  /** What to change. */
  error: string;
}

/** What became of a submission of events. */
export interface Recorded {
  /** Recorded now. */
  accepted: number;
  /** Recorded before, with the same content. */
  duplicates: number;
  /** Only of audit events: left out by the sampling of their type, and counted; absent when none. */
  sampled_out?: number;
  /** At most 100 of what was not recorded. */
  rejected: RejectedEvent[];
  /** How many were not recorded; absent when none. */
  rejected_total?: number;
}

/** What settling a reservation answers. */
export interface Settled extends Recorded {
  /** Whether more was recorded than was reserved, or the reservation was released before. */
  overage: boolean;
  /** Whether the reservation had lapsed. */
  lapsed: boolean;
}

/** One row of `tenant_usage_metrics`. Counts are exact up to 2^53 - 1. */
export interface UsageRow {
  /** The row's UUID. */
  metric_id: string;
  /** Whose usage. */
  tenant_id: string;
  /** Included. */
  period_start: Timestamp;
  /** Not included. */
  period_end: Timestamp;
  /** The period's length. */
  period_type: Period;
  /** All events. */
  api_calls_total: number;
  /** Status 200-299, or none given. */
  api_calls_successful: number;
  /** Status 400 and above, except 429. */
  api_calls_failed: number;
  /** Status 429. */
  api_calls_rate_limited: number;
  /** Milliseconds; 0 when none was given. */
  api_latency_avg_ms: number;
  /** Milliseconds. */
  api_latency_p95_ms: number;
  /** Milliseconds. */
  api_latency_p99_ms: number;
  /** Chat messages from visitors. */
  chat_messages_sent: number;
  /** Chat messages to visitors. */
  chat_messages_received: number;
  /** Distinct chat sessions in the period. */
  chat_sessions_created: number;
  /** Milliseconds. */
  chat_avg_response_time_ms: number;
  /** Embedding events. */
  embeddings_generated: number;
  /** Their tokens. */
  embeddings_tokens_used: number;
  /** Search events. */
  semantic_searches_performed: number;
  /** Documents taken in. */
  kb_documents_ingested: number;
  /** Documents that failed. */
  kb_documents_failed: number;
  /** All tokens. */
  total_tokens_used: number;
  /** Cached ones included. */
  input_tokens: number;
  /** Part of the input. */
  cached_input_tokens: number;
  /** Reasoning included. */
  output_tokens: number;
  /** Part of the output. */
  reasoning_tokens: number;
  /** Null: nothing in the period has a price, and something should. */
  estimated_cost_usd: Money | null;
  /** Events without a price. */
  unpriced_events: number;
  /** The tokens quota in force; null is unlimited. */
  quota_limit: number | null;
  /** What was left of it; null is unlimited. */
  quota_remaining: number | null;
  /** Denials in the period. */
  quota_exceeded_count: number;
  /** Status 400 and above, except 429. */
  error_count: number;
  /** Percent, 0 to 100. */
  error_rate: number;
  /** The most events in any one second. */
  peak_qps: number;
  /** When the row began. */
  created_at: Timestamp;
  /** When it last changed. */
  updated_at: Timestamp;
  /** Only when asked for: its parts, which add up to it. */
  by_model?: ModelRow[];
}

/** One model's part of a row. */
export interface ModelRow {
  /** Null: the events that name no model. */
  model: string | null;
  /** Whether it stands for all models beyond the 64 that stand apart. */
  other?: boolean;
  /** Its events. */
  requests: number;
  /** All tokens. */
  total_tokens: number;
  /** Cached ones included. */
  input_tokens: number;
  /** Part of the input. */
  cached_input_tokens: number;
  /** Reasoning included. */
  output_tokens: number;
  /** Part of the output. */
  reasoning_tokens: number;
  /** Of embeddings. */
  embedding_tokens: number;
  /** Written to the provider's cache. */
  cache_write_tokens: number;
  /** Audio heard. */
  audio_input_tokens: number;
  /** Audio made. */
  audio_output_tokens: number;
  /** Images seen. */
  image_input_tokens: number;
  /** Images made. */
  image_output_tokens: number;
  /** Searches of the web. */
  web_searches: number;
  /** Null: unknown, never free. */
  estimated_cost_usd: Money | null;
  /** Events without a price. */
  unpriced_events: number;
}

/** One row of `tenant_usage_realtime`: an event as it was recorded, defaults filled in. */
export interface EventRow {
  /** Given at commit; never changes. */
  entry_id: number;
  /** The idempotency key. */
  event_id: string;
  /** Whose usage. */
  tenant_id: string;
  /** What happened. */
  event_type: EventType;
  /** When it happened. */
  event_timestamp: Timestamp;
  /** As sent. */
  api_method: string | null;
  /** As sent. */
  api_endpoint: string | null;
  /** As sent. */
  api_status_code: number | null;
  /** Milliseconds. */
  api_response_time_ms: number | null;
  /** As sent. */
  chat_session_id: string | null;
  /** As sent. */
  model: string | null;
  /** Of an embedding. */
  embedding_tokens: number | null;
  /** Of a search. */
  search_query_tokens: number | null;
  /** Of a search. */
  search_result_count: number | null;
  /** All its tokens. */
  tokens_consumed: number;
  /** Cached ones included. */
  input_tokens: number | null;
  /** Part of the input. */
  cached_input_tokens: number | null;
  /** Reasoning included. */
  output_tokens: number | null;
  /** Part of the output. */
  reasoning_tokens: number | null;
  /** The provider's name. */
  provider?: string | null;
  /** Counts of the provider's own usage that have no column. */
  usage?: Record<string, number>;
  /** What it cost, as far as known: null is unknown, never free. */
  cost_usd: Money | null;
  /** Whether the price book says what it cost. */
  cost_estimated?: boolean;
  /** As sent. */
  metadata: Metadata | null;
  /** When it was recorded. */
  created_at: Timestamp;
}

/** A page of a tenant's events, newest first. */
export interface EventPage {
  /** The page. */
  events: EventRow[];
  /** Where to go on; null at the end. */
  next_cursor: string | null;
}

/** A tenant's metrics rows, newest first. */
export interface TenantUsage {
  /** Whose. */
  tenant_id: string;
  /** The rows' length. */
  period: Period;
  /** The rows. */
  usage: UsageRow[];
}

/** Totals over all tenants. */
export interface UsageSummary {
  /** Tenants with usage in the range. */
  total_tenants: number;
  /** All events. */
  total_api_calls: number;
  /** All tokens. */
  total_tokens: number;
  /** Null: nothing has a price, and something should. */
  total_cost: Money | null;
  /** Milliseconds. */
  avg_latency_ms: number;
}

/** One of the top consumers, with the figure they are ordered by. */
export interface TopConsumer {
  /** Who. */
  tenant_id: string;
  /** When ordered by tokens. */
  total_tokens_used?: number;
  /** When ordered by cost; null is unknown. */
  estimated_cost_usd?: Money | null;
  /** When ordered by API calls. */
  api_calls_total?: number;
}

/** A tenant at or over a limit, or denied in the range. */
export interface ExceedingTenant {
  /** Who. */
  tenant_id: string;
  /** The tokens quota; null is unlimited. */
  quota_limit: number | null;
  /** What is left of it. */
  quota_remaining: number | null;
  /** Tokens used in the range. */
  total_tokens_used: number;
  /** Denials in the range. */
  quota_exceeded_count: number;
}
