// The documented tracker of one call: it takes the start time, and records however the call ends.

import { randomUUID } from 'node:crypto';

import { isObject, messageOf } from './errors.js';
import { type Hold, take } from './flow.js';
import type { Recorder } from './recorder.js';
import type { QuotaType } from './types/quota.js';
import type { EventType, Metadata, Money, UsageEvent } from './types/usage.js';

/** What is known of a call beside its outcome; all of it may be left out. */
export interface CallFields {
  /** The model's name. */
  model?: string;
  /** At most 10 characters. */
  apiMethod?: string;
  /** At most 255 characters. */
  apiEndpoint?: string;
  /** At most 128 characters. */
  chatSessionId?: string;
  /** Cached ones included. */
  inputTokens?: number;
  /** Part of the input. */
  cachedInputTokens?: number;
  /** Reasoning included. */
  outputTokens?: number;
  /** Part of the output. */
  reasoningTokens?: number;
  /** Of a search. */
  searchResultCount?: number;
  /** The provider's name, such as `openai`. */
  provider?: string;
  /**
   * The provider's own usage object, whole, as it stands in its answer: the server reads the counts out of it. Token counts
   * that are given beside it are left out.
   */
  usage?: object;
  /** US dollars; a text keeps every digit. By default the server's price book says. */
  costUsd?: Money | number;
}

/** What a successful call reports. */
export interface SuccessFields extends CallFields {
  /** Tokens consumed; by default input and output together. */
  tokensUsed?: number;
  /** Milliseconds; by default the time since the tracker was made. */
  responseTimeMs?: number;
  /** By default 200. */
  statusCode?: number;
  /** Merged over the tracker's own. */
  metadata?: Metadata;
}

const METADATA_BYTES_MAX = 4 * 1024;
const ERROR_CHARACTERS_MAX = 500;
/** The most tokens one event may name. */
const COUNT_MAX = 1_000_000_000_000;
const RESPONSE_TIME_MS_MAX = 4_294_967_295;
/** Of a call that its tracker never heard the end of. */
const STATUS_ABANDONED = 499;

/** What a tracker knows; apart from it, so that it outlives a tracker that is dropped. */
interface CallState {
  readonly recorder: Recorder;
  readonly tenantId: string;
  readonly eventType: EventType;
  readonly eventId: string;
  readonly started: number;
  readonly covered: Set<QuotaType>;
  holds: Hold[];
  metadata: Metadata;
  fields: CallFields;
  recorded: boolean;
}

/** A tracker that is dropped without a word records status 499, and its holds end with it. */
const dropped = new FinalizationRegistry<CallState>((state) => {
  void record(state, STATUS_ABANDONED, {});
});

/**
 * One call being tracked. Each `record*` method resolves when the event is on the server's disk, or after `timeoutMs` at
 * the latest; it never rejects. Not waiting for it is fine: the event goes out in the background.
 */
export class Tracker {
  readonly #state: CallState;

  /** Made by its client. @internal */
  constructor(recorder: Recorder, tenantId: string, eventType: EventType, metadata: Metadata, fields: CallFields) {
    const covered = new Set<QuotaType>();
    this.#state = {
      recorder, tenantId, eventType, covered,
      eventId: randomUUID(),
      started: performance.now(),
      holds: take(recorder, tenantId, covered),
      metadata, fields,
      recorded: false,
    };
    dropped.register(this, this.#state, this);
  }

  /** The event's idempotency key: its name in the event log. */
  get eventId(): string {
    return this.#state.eventId;
  }

  /** Adds what became known of the call; later values win. */
  set(fields: CallFields): this {
    this.#state.fields = { ...this.#state.fields, ...fields };
    return this;
  }

  /** The call succeeded. */
  recordSuccess(success: SuccessFields = {}): Promise<void> {
    return this.#record(success.statusCode ?? 200, success);
  }

  /** The call failed; the error's message goes into the metadata. What it used so far may be given, and is charged. */
  recordFailure(error: unknown, statusCode = 500, used: Omit<SuccessFields, 'statusCode'> = {}): Promise<void> {
    const message = cut(messageOf(error), ERROR_CHARACTERS_MAX) ?? '';
    return this.#record(statusCode, { ...used, metadata: { ...used.metadata, error: message } });
  }

  /** The call was refused for its rate: status 429, which charges nothing. */
  recordRateLimit(): Promise<void> {
    return this.#record(429, {});
  }

  #record(statusCode: number, success: SuccessFields): Promise<void> {
    dropped.unregister(this);
    return record(this.#state, statusCode, success);
  }
}

function record(state: CallState, statusCode: number, success: SuccessFields): Promise<void> {
  const { recorder } = state;
  if (state.recorded) {
    recorder.report({ kind: 'invalid', message: 'this tracker has recorded its call already', count: 1 });
    return Promise.resolve();
  }
  state.recorded = true;
  try {
    // A flow may have enforced after it began to track.
    state.holds.push(...take(recorder, state.tenantId, state.covered));
    return recorder.record(eventOf(state, statusCode, success), state.holds);
  } catch (error) {
    recorder.report({ kind: 'invalid', message: `the call was not recorded: ${messageOf(error)}`, count: 1 });
    return Promise.resolve();
  }
}

/** What cannot be sent is left out and reported: the event matters more than one of its fields. */
function eventOf(state: CallState, statusCode: number, success: SuccessFields): UsageEvent {
  const fields = { ...state.fields, ...success };
  const event: UsageEvent = {
    tenant_id: state.tenantId,
    event_type: state.eventType,
    event_id: state.eventId,
    event_timestamp: new Date().toISOString(),
  };
  const put = <K extends keyof UsageEvent>(name: K, value: UsageEvent[K] | undefined): void => {
    if (value !== undefined) {
      event[name] = value;
    }
  };
  const report = (message: string): void => {
    state.recorder.report({ kind: 'invalid', message, count: 1, event });
  };
  const whole = (name: string, value: number | undefined, max: number): number | undefined => {
    if (value === undefined || (Number.isFinite(value) && value >= 0 && value <= max)) {
      return value === undefined ? undefined : Math.ceil(value);
    }
    report(`${name} is ${value}: it must be from 0 to ${max}, and was left out`);
    return undefined;
  };
  const isStatus = Number.isInteger(statusCode) && statusCode >= 100 && statusCode <= 599;
  if (!isStatus) {
    report(`statusCode is ${statusCode}: it must be from 100 to 599, and was recorded as 500`);
  }
  put('api_status_code', isStatus ? statusCode : 500);
  const elapsed = Math.round(performance.now() - state.started);
  put('api_response_time_ms', whole('responseTimeMs', success.responseTimeMs ?? elapsed, RESPONSE_TIME_MS_MAX));
  if (isObject(fields.usage)) {
    put('usage', fields.usage);
  } else {
    put('tokens_consumed', whole('tokensUsed', success.tokensUsed, COUNT_MAX));
    put('input_tokens', whole('inputTokens', fields.inputTokens, COUNT_MAX));
    put('cached_input_tokens', whole('cachedInputTokens', fields.cachedInputTokens, COUNT_MAX));
    put('output_tokens', whole('outputTokens', fields.outputTokens, COUNT_MAX));
    put('reasoning_tokens', whole('reasoningTokens', fields.reasoningTokens, COUNT_MAX));
  }
  put('provider', cut(fields.provider, 128));
  put('search_result_count', whole('searchResultCount', fields.searchResultCount, COUNT_MAX));
  put('model', cut(fields.model, 128));
  put('api_method', cut(fields.apiMethod, 10));
  put('api_endpoint', cut(fields.apiEndpoint, 255));
  put('chat_session_id', cut(fields.chatSessionId, 128));
  put('cost_usd', fields.costUsd);
  const metadata: Metadata = { ...state.metadata, ...success.metadata };
  if (Object.keys(metadata).length > 0) {
    const fault = faultOf(metadata);
    if (fault === undefined) {
      event.metadata = metadata;
    } else {
      report(`the metadata ${fault}, and was left out`);
    }
  }
  return event;
}

function cut(text: string | undefined, characters: number): string | undefined {
  // As the server counts: by code points, none of them halved.
  return typeof text !== 'string' || text === '' ? undefined : Array.from(text).slice(0, characters).join('');
}

function faultOf(metadata: Metadata): string | undefined {
  try {
    const bytes = Buffer.byteLength(JSON.stringify(metadata));
    return bytes > METADATA_BYTES_MAX ? `has ${bytes} bytes of at most ${METADATA_BYTES_MAX}` : undefined;
  } catch (error) {
    return `is no JSON (${messageOf(error)})`;
  }
}
