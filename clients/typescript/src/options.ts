// What a client is made with: checked once, so that mistakes are loud and early.

import type { FetchLike } from './http.js';
import type { OnUnreachable } from './quota-enforcer.js';
import type { RecordingProblem } from './recorder.js';

/** How a client is made. */
export interface MetergateOptions {
  /** Where the server listens, such as `http://127.0.0.1:8080`. */
  url: string;
  /** A service or admin key. It belongs on servers: in a browser it is a leak. */
  key: string;
  /**
   * What `enforceQuota` answers when the server does not: `allow` keeps your service up and gives budgets up for as long,
   * `deny` keeps budgets and stops your service. Only you can know, so there is no default.
   */
  onUnreachable: OnUnreachable;
  /** How long anybody waits for a decision or a record, in milliseconds: 1 to 60,000, by default 1,000. */
  timeoutMs?: number;
  /** How long reads and admin calls may take, in milliseconds; by default 10,000. */
  readTimeoutMs?: number;
  /** The most events that wait in the background; what comes then is dropped and counted. By default 10,000. */
  queueMax?: number;
  /** Hears of everything that could not be recorded. By default a line on standard error, at most one every ten seconds. */
  onError?: (problem: RecordingProblem) => void;
  /** Sends requests instead of the global `fetch`. */
  fetch?: FetchLike;
}

/** Options, all there. @internal */
export type CheckedOptions = Required<Omit<MetergateOptions, 'fetch'>> & { fetch: FetchLike | undefined };

const TIMEOUT_MS = 1_000;
const TIMEOUT_MS_MAX = 60_000;
const READ_TIMEOUT_MS = 10_000;
const QUEUE_MAX = 10_000;
const WARNING_PAUSE_MS = 10_000;

/** Fails with a sentence that says what to change. @internal */
export function checkOptions(options: MetergateOptions): CheckedOptions {
  refuseBrowsers();
  // Callers without types exist.
  const given: Partial<Record<keyof MetergateOptions, unknown>> = options;
  const { url, key, onUnreachable } = given;
  if (onUnreachable !== 'allow' && onUnreachable !== 'deny') {
    throw new TypeError("onUnreachable must be 'allow' or 'deny': what enforceQuota answers when metergate does not. Choose one.");
  }
  if (typeof url !== 'string' || !/^https?:\/\/[^\s?#]+$/.test(url) || !URL.canParse(url)) {
    throw new TypeError('url must be where metergate listens, such as http://127.0.0.1:8080');
  }
  const { username, password } = new URL(url);
  if (username !== '' || password !== '') {
    throw new TypeError('url must not carry a name or a password');
  }
  if (typeof key !== 'string' || !/^[\x21-\x7e]+$/.test(key)) {
    throw new TypeError('key must be a metergate key: printable characters without spaces');
  }
  return {
    url, key, onUnreachable,
    timeoutMs: bounded('timeoutMs', options.timeoutMs ?? TIMEOUT_MS, TIMEOUT_MS_MAX),
    readTimeoutMs: bounded('readTimeoutMs', options.readTimeoutMs ?? READ_TIMEOUT_MS, 600_000),
    queueMax: bounded('queueMax', options.queueMax ?? QUEUE_MAX, 1_000_000),
    onError: options.onError ?? warnSeldom(),
    fetch: options.fetch,
  };
}

/** From the environment: METERGATE_URL (or METERGATE_SERVER), METERGATE_KEY, METERGATE_ON_UNREACHABLE. @internal */
export function optionsFromEnvironment(): MetergateOptions {
  refuseBrowsers();
  const { env } = process;
  const url = env['METERGATE_URL'] ?? env['METERGATE_SERVER'];
  const key = env['METERGATE_KEY'];
  const onUnreachable = env['METERGATE_ON_UNREACHABLE'];
  const missing = [
    ...(url === undefined ? ['METERGATE_URL'] : []),
    ...(key === undefined ? ['METERGATE_KEY'] : []),
    ...(onUnreachable === 'allow' || onUnreachable === 'deny' ? [] : ['METERGATE_ON_UNREACHABLE (allow or deny)']),
  ];
  if (url === undefined || key === undefined || (onUnreachable !== 'allow' && onUnreachable !== 'deny')) {
    throw new TypeError(`metergate needs these in the environment: ${missing.join(', ')}`);
  }
  const timeout = env['METERGATE_TIMEOUT_MS'];
  return { url, key, onUnreachable, ...(timeout === undefined ? {} : { timeoutMs: Number(timeout) }) };
}

function refuseBrowsers(): void {
  const place = globalThis as { window?: unknown; document?: unknown };
  if (place.window !== undefined || place.document !== undefined) {
    throw new Error('metergate is for servers: a service key in a browser is a leak. Call your own server from the browser.');
  }
}

function bounded(name: string, value: number, max: number): number {
  if (!Number.isFinite(value) || value < 1 || value > max) {
    throw new TypeError(`${name} must be from 1 to ${max}`);
  }
  return value;
}

function warnSeldom(): (problem: RecordingProblem) => void {
  let last = -Infinity;
  let silent = 0;
  return ({ kind, message, count }) => {
    const now = performance.now();
    if (now - last < WARNING_PAUSE_MS) {
      silent += 1;
      return;
    }
    console.warn(`metergate: ${kind}: ${message} (events: ${count}${silent > 0 ? `; ${silent} more reports since the last` : ''})`);
    last = now;
    silent = 0;
  };
}
