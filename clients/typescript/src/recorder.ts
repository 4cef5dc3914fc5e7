// What is recorded in the background: usage events, settlements, releases, audit events.

import { MetergateError, UnreachableError, isObject } from './errors.js';
import type { Hold } from './flow.js';
import type { Answer, Call, Transport } from './http.js';
import { Lane, type LaneOptions, type Verdict } from './lane.js';
import type { AuditEventInput } from './types/audit.js';
import type { Recorded, UsageEvent } from './types/usage.js';

/** Something that could not be recorded, or not yet. */
export interface RecordingProblem {
  /**
   * `unreachable`: will be tried again. `rejected`: the server refused it for good. `dropped`: the queue was full, or the
   * client closed. `invalid`: a value was left out so that the rest could be recorded.
   */
  kind: 'unreachable' | 'rejected' | 'dropped' | 'invalid';
  /** A sentence for people. */
  message: string;
  /** How many events it concerns. */
  count: number;
  /** The server's stable code, if it gave one. */
  code?: string;
  /** The event, when it is one. */
  event?: UsageEvent | AuditEventInput;
}

/** Counters of a client since it was made. */
export interface RecordingStats {
  /** Waiting or on their way. */
  queued: number;
  /** Recorded, duplicates included. */
  recorded: number;
  /** Of them: recorded by an earlier try whose answer was lost. */
  duplicates: number;
  /** Audit events that the server's sampling left out, and counted. */
  sampledOut: number;
  /** Refused by the server for good. */
  rejected: number;
  /** Lost because the queue was full or the client closed. */
  dropped: number;
  /** Tries that failed and were, or will be, repeated. */
  retries: number;
}

type HoldItem =
  | { kind: 'settle'; hold: Hold; event: UsageEvent; release: readonly Hold[] }
  | { kind: 'release'; hold: Hold };

const EVENTS_PER_BATCH = 500;
/** How long one delivery may take before it is given up and repeated. */
const DELIVERY_TIMEOUT_MS = 10_000;
const LINGER_MS = 50;
/** The server's words for a `usage` that it cannot use. */
const MISREAD_USAGE = new Set(['usage_unreadable', 'usage_extraction_unavailable']);
const BACKOFF_MS = { first: 100, max: 10_000 };

/** The background of a client. @internal */
export class Recorder {
  readonly #transport: Transport;
  readonly #onError: (problem: RecordingProblem) => void;
  readonly #queueMax: number;
  readonly #deliveryTimeoutMs: number;
  readonly #events: Lane<UsageEvent>;
  readonly #audit: Lane<AuditEventInput>;
  readonly #holds: Lane<HoldItem>;
  readonly #counts = { recorded: 0, duplicates: 0, sampledOut: 0, rejected: 0, dropped: 0, retries: 0 };
  #closed = false;

  constructor(transport: Transport, options: { timeoutMs: number; queueMax: number; onError: (problem: RecordingProblem) => void }) {
    this.#transport = transport;
    this.#onError = options.onError;
    this.#queueMax = options.queueMax;
    this.#deliveryTimeoutMs = Math.max(DELIVERY_TIMEOUT_MS, options.timeoutMs);
    const lane = <T>(batchMax: number, flyingMax: number, send: LaneOptions<T>['send']): Lane<T> =>
      new Lane<T>({
        batchMax, flyingMax, send, lingerMs: LINGER_MS, patienceMs: options.timeoutMs, backoffMs: BACKOFF_MS,
        slow: (count) => {
          this.report({ kind: 'unreachable', message: `metergate has not answered for ${options.timeoutMs} ms`, count });
        },
      });
    this.#events = lane(EVENTS_PER_BATCH, 4, (batch) => this.#sendEvents(batch));
    this.#audit = lane(EVENTS_PER_BATCH, 2, (batch) => this.#sendAudit(batch));
    this.#holds = lane(1, 32, (batch) => this.#sendHold(batch));
  }

  /** Counters so far. */
  get stats(): RecordingStats {
    return { queued: this.#size, ...this.#counts };
  }

  get #size(): number {
    return this.#events.size + this.#audit.size + this.#holds.size;
  }

  /** Records an event, settling the holds it was made under. Never rejects. */
  record(event: UsageEvent, holds: readonly Hold[]): Promise<void> {
    const [hold, ...release] = holds;
    if (!this.#admits(event)) {
      return Promise.resolve();
    }
    return hold === undefined ? this.#events.push(event) : this.#holds.push({ kind: 'settle', hold, event, release });
  }

  /** Writes an audit event. Never rejects. */
  audit(event: AuditEventInput): Promise<void> {
    return this.#admits(event) ? this.#audit.push(event) : Promise.resolve();
  }

  /** Gives a hold back that nobody will settle; what fails is left to lapse. */
  release(hold: Hold): void {
    if (!this.#closed && this.#size < this.#queueMax) {
      void this.#holds.push({ kind: 'release', hold });
    }
  }

  /** Reports what concerns recording; never throws. */
  report(problem: RecordingProblem): void {
    try {
      this.#onError(problem);
    } catch {
      // A broken listener must not break recording.
    }
  }

  /** Sends everything now. True when all of it has left within the time. */
  async flush(timeoutMs: number): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    // Not unref'd: whoever waits for a flush wants the process to wait too.
    const late = new Promise<boolean>((resolve) => { timer = setTimeout(() => { resolve(false); }, timeoutMs); });
    const all = async (): Promise<boolean> => {
      // Settlements first: those that come too late become events.
      await this.#holds.flush(late);
      await Promise.all([this.#events.flush(late), this.#audit.flush(late), this.#holds.flush(late)]);
      return true;
    };
    const done = await Promise.race([all(), late]);
    clearTimeout(timer);
    return done;
  }

  /** Takes nothing more, and sends what is left. */
  async close(timeoutMs: number): Promise<boolean> {
    this.#closed = true;
    return this.flush(timeoutMs);
  }

  #admits(event: UsageEvent | AuditEventInput): boolean {
    const closed = this.#closed;
    if (!closed && this.#size < this.#queueMax) {
      return true;
    }
    this.#counts.dropped += 1;
    const message = closed ? 'the client is closed' : `the queue of ${this.#queueMax} events is full`;
    this.report({ kind: 'dropped', message, count: 1, event });
    return false;
  }

  #sendEvents(batch: readonly UsageEvent[]): Promise<Verdict<UsageEvent>> {
    return this.#sendBatch('/api/usage/events', batch, (event, code) => this.#mend(event, code));
  }

  /** Whether an event that was refused can be sent without what it was refused for: nothing was recorded of it yet. */
  #mend(event: UsageEvent, code: string): boolean {
    if (code === 'timestamp_in_future' && event.event_timestamp !== undefined) {
      // This machine's clock is ahead: the server's time stands in.
      delete event.event_timestamp;
      return true;
    }
    if (MISREAD_USAGE.has(code) && event.usage !== undefined) {
      const message = 'the server cannot read this usage object: the call is recorded without its tokens';
      this.report({ kind: 'invalid', message, count: 1, code, event: { ...event } });
      delete event.usage;
      delete event.provider;
      return true;
    }
    return false;
  }

  #sendAudit(batch: readonly AuditEventInput[]): Promise<Verdict<AuditEventInput>> {
    return this.#sendBatch('/api/audit/events', batch, () => false);
  }

  /** `mend` says whether an event that was refused is worth another try, and changes it for that. */
  async #sendBatch<T extends UsageEvent | AuditEventInput>(
    path: string, batch: readonly T[], mend: (event: T, code: string) => boolean,
  ): Promise<Verdict<T>> {
    const answer = await this.#try({ method: 'POST', path, body: batch, timeoutMs: this.#deliveryTimeoutMs }, batch.length);
    if ('afterMs' in answer) {
      return { again: batch, afterMs: answer.afterMs };
    }
    if (answer.status >= 200 && answer.status < 300) {
      const mended = this.#tally(answer.body, batch, mend);
      return mended.length > 0 ? this.#sendBatch(path, mended, () => false) : { again: [] };
    }
    if (batch.length > 1) {
      // One of them spoils the rest, or they are too large together.
      const middle = batch.length >> 1;
      const first = await this.#sendBatch(path, batch.slice(0, middle), mend);
      const second = await this.#sendBatch(path, batch.slice(middle), mend);
      return { again: [...first.again, ...second.again], afterMs: second.afterMs ?? first.afterMs };
    }
    this.#refused(answer, batch);
    return { again: [] };
  }

  async #sendHold([item]: readonly HoldItem[]): Promise<Verdict<HoldItem>> {
    if (item === undefined) {
      return { again: [] };
    }
    const path = `/api/quota/reservations/${encodeURIComponent(item.hold.reservationId)}`;
    const { tenantId } = item.hold;
    const call: Call = item.kind === 'release'
      ? { method: 'DELETE', path, query: { tenant_id: tenantId }, timeoutMs: this.#deliveryTimeoutMs }
      : {
        method: 'POST', path: `${path}/settle`, timeoutMs: this.#deliveryTimeoutMs,
        body: { tenant_id: tenantId, events: [item.event] },
      };
    const answer = await this.#try(call, item.kind === 'settle' ? 1 : 0);
    if ('afterMs' in answer) {
      const lapsed = item.kind === 'release' && performance.now() >= item.hold.lapsesAt;
      return lapsed ? { again: [] } : { again: [item], afterMs: answer.afterMs };
    }
    if (item.kind === 'settle') {
      if (answer.status === 400 && this.#mend(item.event, new MetergateError(answer.status, answer.body).code)) {
        return this.#sendHold([item]);
      }
      await this.#settled(item, answer);
      item.release.forEach((hold) => { this.release(hold); });
    }
    return { again: [] };
  }

  async #settled(item: HoldItem & { kind: 'settle' }, answer: Answer): Promise<void> {
    if (answer.status >= 200 && answer.status < 300) {
      // The hold is closed already: what was mended follows as an event of its own.
      const mended = this.#tally(answer.body, [item.event], (event, code) => this.#mend(event, code));
      await Promise.all(mended.map((event) => this.#events.push(event)));
    } else if (answer.status === 404) {
      // The grant never reached the disk, or is forgotten: usage is recorded all the same.
      await this.#events.push(item.event);
    } else {
      this.#refused(answer, [item.event]);
      this.release(item.hold);
    }
  }

  /** The answer; or when to try again. */
  async #try(call: Call, count: number): Promise<Answer | { afterMs: number | undefined }> {
    let problem: { message: string; code?: string; retryAfterSeconds: number | undefined };
    try {
      const answer = await this.#transport.send(call);
      // A key may be rotated and a proxy may be busy: that passes, and usage must not be lost for it.
      if (![401, 403, 408, 425, 429].includes(answer.status) && !(answer.status >= 300 && answer.status < 400)) {
        return answer;
      }
      const { message, code } = new MetergateError(answer.status, answer.body);
      problem = { message, code, retryAfterSeconds: answer.retryAfterSeconds };
    } catch (error) {
      const retryAfterSeconds = error instanceof UnreachableError ? error.retryAfterSeconds : undefined;
      problem = { message: error instanceof Error ? error.message : String(error), retryAfterSeconds };
    }
    this.#counts.retries += 1;
    const { message, code } = problem;
    this.report({ kind: 'unreachable', message, count, ...(code === undefined || code === '' ? {} : { code }) });
    return { afterMs: problem.retryAfterSeconds === undefined ? undefined : problem.retryAfterSeconds * 1_000 };
  }

  /** Counts an answer, and hands back what was mended and is to be sent again. */
  #tally<T extends UsageEvent | AuditEventInput>(
    body: unknown, batch: readonly T[], mend: (event: T, code: string) => boolean,
  ): T[] {
    const answer = (isObject(body) ? body : {}) as Partial<Recorded>;
    const rejected = answer.rejected ?? [];
    this.#counts.recorded += (answer.accepted ?? 0) + (answer.duplicates ?? 0);
    this.#counts.duplicates += answer.duplicates ?? 0;
    this.#counts.sampledOut += answer.sampled_out ?? 0;
    this.#counts.rejected += answer.rejected_total ?? rejected.length;
    const mended: T[] = [];
    for (const { index, code, error } of rejected) {
      const event = batch[index];
      if (event !== undefined && mend(event, code)) {
        this.#counts.rejected -= 1;
        mended.push(event);
      } else {
        this.report({ kind: 'rejected', message: error, count: 1, code, ...(event === undefined ? {} : { event }) });
      }
    }
    const unnamed = (answer.rejected_total ?? rejected.length) - rejected.length;
    if (unnamed > 0) {
      this.report({ kind: 'rejected', message: `${unnamed} more were refused`, count: unnamed });
    }
    return mended;
  }

  #refused(answer: Answer, batch: readonly (UsageEvent | AuditEventInput)[]): void {
    const { message, code } = new MetergateError(answer.status, answer.body);
    this.#counts.rejected += batch.length;
    const [event] = batch;
    this.report({ kind: 'rejected', message, count: batch.length, code, ...(event === undefined ? {} : { event }) });
  }
}
