// One HTTP request: its time limit, its key, its answer.

import { MetergateError, UnreachableError, messageOf } from './errors.js';
import { parseExact } from './exact-json.js';
import type { DateLike } from './types/usage.js';

/** The part of `fetch` that is used; a proxy or a test may bring its own. */
export type FetchLike = (url: string, init: {
  /** In capitals. */
  method: string;
  /** By lower-case name. */
  headers: Record<string, string>;
  /** JSON. */
  body?: string;
  /** Ends the request when its time is over. */
  signal: AbortSignal;
  /** Redirects are errors: the key must not travel. */
  redirect: 'error';
  /** Frameworks that patch `fetch` must not keep answers. */
  cache: 'no-store';
}) => Promise<{
  /** The HTTP status. */
  status: number;
  /** The answer's header fields. */
  headers: {
    /** A field's value. */
    get(name: string): string | null;
  };
  /** The whole body. */
  text(): Promise<string>;
}>;

/** One request. @internal */
export interface Call {
  /** In capitals. */
  method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** From the root, encoded. */
  path: string;
  /** What is undefined is left out. */
  query?: Record<string, DateLike | number | boolean | undefined> | undefined;
  /** Sent as JSON. */
  body?: unknown;
  /** Until the whole answer is there. */
  timeoutMs: number;
  /** Beside the key and the content type. */
  headers?: Record<string, string>;
}

/** What was answered. @internal */
export interface Answer {
  /** Below 500. */
  status: number;
  /** Undefined when it is no JSON. */
  body: unknown;
  /** As it came. */
  text: string;
  /** When to try again, if the server said so. */
  retryAfterSeconds: number | undefined;
}

/** Sends requests to one server with one key. @internal */
export class Transport {
  readonly #base: string;
  readonly #key: string;
  readonly #fetch: FetchLike;

  constructor(url: string, key: string, fetchLike: FetchLike | undefined) {
    this.#base = url.replace(/\/+$/, '');
    this.#key = key;
    // Looked up at each call, so that a framework's or a test's later patch counts.
    this.#fetch = fetchLike ?? ((address, init) => fetch(address, init));
  }

  /** The answer, whatever its status below 500 is. Fails with UnreachableError. */
  async send(call: Call): Promise<Answer> {
    const headers: Record<string, string> = { authorization: `Bearer ${this.#key}`, ...call.headers };
    if (call.body !== undefined) {
      headers['content-type'] = 'application/json';
    }
    const signal = AbortSignal.timeout(Math.max(1, Math.ceil(call.timeoutMs)));
    let status: number;
    let text: string;
    let retryAfterSeconds: number | undefined;
    try {
      const response = await this.#fetch(this.#base + call.path + queryOf(call.query), {
        method: call.method,
        headers,
        ...(call.body === undefined ? {} : { body: toJson(call.body) }),
        signal,
        redirect: 'error',
        cache: 'no-store',
      });
      status = response.status;
      retryAfterSeconds = secondsOf(response.headers.get('retry-after'));
      text = await response.text();
    } catch (error) {
      if (signal.aborted) {
        throw new UnreachableError(`metergate did not answer within ${call.timeoutMs} ms`, { timedOut: true, cause: error });
      }
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      throw new UnreachableError(`metergate cannot be reached: ${messageOf(cause)}`, { cause: error });
    }
    const body = bodyOf(text);
    if (status >= 500) {
      const cause = new MetergateError(status, body, retryAfterSeconds);
      throw new UnreachableError(`metergate cannot answer: ${cause.message}`, { answered: true, retryAfterSeconds, cause });
    }
    return { status, body, text, retryAfterSeconds };
  }

  /** Sends what is safe to repeat: once more within the time, since a kept connection may have been closed meanwhile. */
  async insist(call: Call): Promise<Answer> {
    const started = performance.now();
    try {
      return await this.send(call);
    } catch (error) {
      const left = call.timeoutMs - (performance.now() - started);
      const hopeless = !(error instanceof UnreachableError) || error.timedOut || error.answered;
      if (hopeless || left < 1) {
        throw error;
      }
      return this.send({ ...call, timeoutMs: left });
    }
  }

  /** A 2xx answer. Fails with MetergateError or UnreachableError. */
  async whole(call: Call): Promise<Answer> {
    const answer = await (call.method === 'GET' ? this.insist(call) : this.send(call));
    if (answer.status < 200 || answer.status > 299) {
      throw new MetergateError(answer.status, answer.body, answer.retryAfterSeconds);
    }
    return answer;
  }

  /** The body of a 2xx answer. Fails with MetergateError or UnreachableError. */
  async get<T>(call: Call): Promise<T> {
    const { status, body } = await this.whole(call);
    if (body === undefined) {
      throw new UnreachableError(`metergate answered ${status} without JSON`, { answered: true });
    }
    // The server's shapes are the types of this package; its tests compare them with a real one.
    return body as T;
  }
}

/** JSON text; a bigint is written as the number it is. @internal */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? Number(part) : part));
}

function bodyOf(text: string): unknown {
  try {
    return parseExact(text);
  } catch {
    return undefined;
  }
}

function queryOf(query: Call['query']): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) {
      params.set(name, value instanceof Date ? value.toISOString() : String(value));
    }
  }
  const text = params.toString();
  return text === '' ? '' : `?${text}`;
}

function secondsOf(text: string | null): number | undefined {
  const seconds = text === null ? NaN : Number(text);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : undefined;
}
