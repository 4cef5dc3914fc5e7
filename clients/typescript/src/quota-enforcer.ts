// QuotaEnforcer: may this work be done? And the explicit reservations beneath it.

import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';

import { MetergateError, UnreachableError, isObject, messageOf } from './errors.js';
import { type Hold, canTie, made, tie } from './flow.js';
import type { Answer, Call, Transport } from './http.js';
import { decisionDetails, quotaStatus, typeResults } from './quota-shapes.js';
import type { Recorder } from './recorder.js';
import type { Tenant } from './types/admin.js';
import type {
  Amount, DecisionDetails, DecisionJson, ExplanationJson, MultipleQuotaResult, QuotaCheckResult, QuotaItem, QuotaStatus,
  QuotaStatusJson, QuotaType, QuotaWindow, ReserveResult, TypeResult,
} from './types/quota.js';
import type { DateLike, Settled, UsageEvent } from './types/usage.js';

/** What to answer when the server does not. */
export type OnUnreachable = 'allow' | 'deny';

/** How to hold what was enforced. */
export interface EnforceOptions {
  /** How long it is held at most, in seconds: 1 to 3,600, by default 60. Longer than the work may take. */
  ttlSeconds?: number;
  /**
   * `tied` (default): a reservation of its own, which this async flow's tracker settles. `anonymous`: the server closes it
   * with the tenant's next recorded event, for callers that record elsewhere than with this client's trackers.
   */
  hold?: 'tied' | 'anonymous';
}

/** How to reserve. */
export interface ReserveOptions {
  /** The idempotency key; by default a new UUID. */
  reservationId?: string;
  /** How long it is held at most, in seconds: 1 to 3,600, by default 60. */
  ttlSeconds?: number;
}

/** A tenant's own limit. */
export interface CustomQuotaOptions {
  /** Why. */
  reason?: string;
  /** Until when; by default for good. */
  until?: Date | string;
  /** By default the type's documented window: a minute for `api_calls`, a month for `cost`, a day for the others. */
  window?: QuotaWindow;
}

/** Which denial to explain; without any, the latest. */
export interface ExplainQuery {
  /** As a denial answered it. */
  decisionId?: string;
  /** The `x-request-id` of the denied request. */
  requestId?: string;
  /** When it was denied. */
  at?: DateLike;
}

/** What the enforcer needs of its client. @internal */
export interface EnforcerOptions {
  /** Of decisions. */
  timeoutMs: number;
  /** Of reads. */
  readTimeoutMs: number;
  /** Who decides when the server does not. */
  onUnreachable: OnUnreachable;
}

const TTL_SECONDS = 60;

interface Outcome {
  allowed: boolean;
  results: Partial<Record<QuotaType, TypeResult>>;
  details: DecisionDetails;
  hold: Hold | undefined;
}

/** The documented QuotaEnforcer. Its methods may be taken off it: they need no `this`. */
export class QuotaEnforcer {
  readonly #transport: Transport;
  readonly #recorder: Recorder;
  readonly #options: EnforcerOptions;

  /** Made by its client. @internal */
  constructor(transport: Transport, recorder: Recorder, options: EnforcerOptions) {
    this.#transport = transport;
    this.#recorder = recorder;
    this.#options = options;
  }

  /**
   * Takes an amount before the work is done. Answers within `timeoutMs`, whatever happens: a server that does not answer
   * is answered for by `onUnreachable`, with `error` set. Rejects only for mistakes: a wrong key, an impossible amount.
   */
  readonly enforceQuota = async (
    tenantId: string, quotaType: QuotaType, amount: Amount, options: EnforceOptions = {},
  ): Promise<QuotaCheckResult> => {
    const { allowed, results, details, hold } = await this.#enforce(tenantId, [{ type: quotaType, amount }], options);
    const result = results[quotaType];
    return tied(allowed, hold, {
      tokensRemaining: result?.tokensRemaining ?? (allowed ? -1 : 0),
      quotaLimit: result?.quotaLimit ?? null,
      ...details,
    });
  };

  /** Takes amounts of several types, all or nothing, in one hold. Otherwise as `enforceQuota`. */
  readonly enforceMultipleQuotas = async (
    tenantId: string, items: readonly QuotaItem[], options: EnforceOptions = {},
  ): Promise<MultipleQuotaResult> => {
    const { allowed, results, details, hold } = await this.#enforce(tenantId, items, options);
    return tied(allowed, hold, { results, ...details });
  };

  /** Only looks: whether an amount would fit now. Fails when the server does. */
  readonly check = async (tenantId: string, quotaType: QuotaType, amount: Amount = 0): Promise<QuotaCheckResult> => {
    const body = { tenant_id: tenantId, items: itemsOf([{ type: quotaType, amount }]) };
    const decision = decisionOf(await this.#transport.insist(this.#post('/api/quota/check', body)));
    const result = typeResults(decision)[quotaType];
    return {
      allowed: decision.allowed,
      tokensRemaining: result?.tokensRemaining ?? 0,
      quotaLimit: result?.quotaLimit ?? null,
      ...decisionDetails(decision),
    };
  };

  /** Reserves explicitly: hand the id to `settle` or `release`. No tracker touches it. Fails when the server does. */
  readonly reserve = async (
    tenantId: string, items: readonly QuotaItem[], options: ReserveOptions = {},
  ): Promise<ReserveResult> => {
    const reservationId = options.reservationId ?? randomUUID();
    const body = reserveBody(tenantId, items, reservationId, options.ttlSeconds);
    const decision = decisionOf(await this.#transport.insist(this.#post('/api/quota/reserve', body)));
    return {
      allowed: decision.allowed,
      reservationId,
      ...(decision.expires_at === undefined ? {} : { expiresAt: decision.expires_at }),
      results: typeResults(decision),
      ...decisionDetails(decision),
    };
  };

  /** Records what really happened and gives the rest back, in one commit; safe to repeat. Fails when the server does. */
  readonly settle = (
    tenantId: string, reservationId: string, events: readonly (Omit<UsageEvent, 'tenant_id'> & { tenant_id?: string })[],
  ): Promise<Settled> =>
    this.#transport.get(this.#post(`${pathOf(reservationId)}/settle`, { tenant_id: tenantId, events }));

  /** Gives all of a reservation back. False when it had ended already. Fails when the server does. */
  readonly release = async (tenantId: string, reservationId: string): Promise<boolean> => {
    const { timeoutMs } = this.#options;
    const call: Call = { method: 'DELETE', path: pathOf(reservationId), query: { tenant_id: tenantId }, timeoutMs };
    return (await this.#transport.get<{ released: boolean }>(call)).released;
  };

  /** Sets a tenant's own limit, which beats its plan's; null is unlimited. Needs an admin key. */
  readonly setCustomQuota = (
    tenantId: string, quotaType: QuotaType, limit: Amount | null, options: CustomQuotaOptions = {},
  ): Promise<Tenant> => {
    const until = options.until instanceof Date ? options.until.toISOString() : options.until;
    const body = { limit: limit === null ? null : amountOf(quotaType, limit), reason: options.reason, until, window: options.window };
    return this.#transport.get({ method: 'PUT', path: overridePath(tenantId, quotaType), body, timeoutMs: this.#options.readTimeoutMs });
  };

  /** Removes a tenant's own limit: its plan's is back. Needs an admin key. */
  readonly removeCustomQuota = (tenantId: string, quotaType: QuotaType, window?: QuotaWindow): Promise<Tenant> =>
    this.#transport.get({
      method: 'DELETE', path: overridePath(tenantId, quotaType), query: { window }, timeoutMs: this.#options.readTimeoutMs,
    });

  /** A tenant's plan, limits, use and what is left. */
  readonly getQuotaStatus = async (tenantId: string): Promise<QuotaStatus> => {
    const path = `/api/quota/${encodeURIComponent(tenantId)}`;
    return quotaStatus(await this.#transport.get<QuotaStatusJson>({ method: 'GET', path, timeoutMs: this.#options.readTimeoutMs }));
  };

  /** Why a request was denied, which limit, and what had used it; by the names of the HTTP API. */
  readonly explainDenial = (tenantId: string, query: ExplainQuery = {}): Promise<ExplanationJson> =>
    this.#transport.get({
      method: 'GET', path: `/api/quota/${encodeURIComponent(tenantId)}/explain`, timeoutMs: this.#options.readTimeoutMs,
      query: { decision_id: query.decisionId, request_id: query.requestId, at: query.at },
    });

  async #enforce(tenantId: string, items: readonly QuotaItem[], options: EnforceOptions): Promise<Outcome> {
    const { ttlSeconds = TTL_SECONDS } = options;
    const hold: Hold | undefined = options.hold === 'anonymous' || !canTie() ? undefined : {
      owner: this.#recorder,
      tenantId,
      reservationId: randomUUID(),
      quotaTypes: items.map((item) => item.type),
      lapsesAt: performance.now() + ttlSeconds * 1_000,
      taken: false,
    };
    const call = hold === undefined
      ? this.#post('/api/quota/enforce', { tenant_id: tenantId, items: itemsOf(items) })
      : this.#post('/api/quota/reserve', reserveBody(tenantId, items, hold.reservationId, ttlSeconds));
    let decision: DecisionJson;
    try {
      // An anonymous hold has no key: asked twice, it could be taken twice.
      decision = decisionOf(await (hold === undefined ? this.#transport.send(call) : this.#transport.insist(call)));
    } catch (error) {
      if (error instanceof MetergateError && isRefusal(error)) {
        return { allowed: false, results: {}, details: { error: error.message, code: error.code }, hold: undefined };
      }
      if (!(error instanceof UnreachableError)) {
        throw error;
      }
      return this.#answerFor(error, hold);
    }
    const granted = decision.allowed ? hold : undefined;
    if (granted !== undefined) {
      made(granted);
    }
    return { allowed: decision.allowed, results: typeResults(decision), details: decisionDetails(decision), hold: granted };
  }

  #answerFor(error: UnreachableError, hold: Hold | undefined): Outcome {
    const allowed = this.#options.onUnreachable === 'allow';
    if (hold !== undefined && allowed) {
      // The grant may have arrived: then the tracker's settlement finds it, otherwise it records an event without it.
      made(hold);
    } else if (hold !== undefined) {
      this.#recorder.release(hold);
    }
    const sentence = `${messageOf(error)}; ${allowed ? 'allowed' : 'denied'} by onUnreachable`;
    return { allowed, results: {}, details: { error: sentence, code: 'unreachable' }, hold: allowed ? hold : undefined };
  }

  #post(path: string, body: unknown): Call {
    return { method: 'POST', path, body, timeoutMs: this.#options.timeoutMs };
  }
}

/** Makes `allowed` tie the hold to whoever reads it. */
function tied<T extends object>(allowed: boolean, hold: Hold | undefined, fields: T): T & { readonly allowed: boolean } {
  const answer = { ...fields, allowed };
  if (hold === undefined) {
    return answer;
  }
  Object.defineProperty(answer, 'allowed', {
    enumerable: true,
    configurable: true,
    get: () => {
      tie(hold);
      return allowed;
    },
  });
  // Printing shows the value, and ties nothing.
  Object.defineProperty(answer, inspect.custom, { enumerable: false, value: () => ({ allowed, ...fields }) });
  return answer;
}

/** A decision, be it yes or no. Fails with MetergateError, or with UnreachableError when it is no answer of metergate. */
function decisionOf(answer: Answer): DecisionJson {
  const { status, body } = answer;
  if ((status === 200 || status === 429) && isObject(body) && typeof body['allowed'] === 'boolean') {
    return body as unknown as DecisionJson;
  }
  if (status === 200 || status === 408 || status === 429) {
    throw new UnreachableError(`metergate gave no decision (status ${status})`, { answered: true, retryAfterSeconds: answer.retryAfterSeconds });
  }
  throw new MetergateError(status, body, answer.retryAfterSeconds);
}

/** Whether the server knows the tenant well and says no; other refusals are mistakes of the program. */
function isRefusal(error: MetergateError): boolean {
  return (error.status === 403 || error.status === 404) && /^(plan|tenant|too_many)_/.test(error.code);
}

function reserveBody(tenantId: string, items: readonly QuotaItem[], reservationId: string, ttlSeconds?: number): unknown {
  return { tenant_id: tenantId, reservation_id: reservationId, ttl_seconds: ttlSeconds, items: itemsOf(items) };
}

function itemsOf(items: readonly QuotaItem[]): unknown[] {
  return items.map(({ type, amount }) => ({ quota_type: type, amount: amountOf(type, amount) }));
}

/** Only an amount of cost may travel as text. */
function amountOf(type: QuotaType, amount: Amount): Amount {
  return typeof amount === 'string' && type !== 'cost' ? Number(amount) : amount;
}

function pathOf(reservationId: string): string {
  return `/api/quota/reservations/${encodeURIComponent(reservationId)}`;
}

function overridePath(tenantId: string, quotaType: QuotaType): string {
  return `/api/admin/tenants/${encodeURIComponent(tenantId)}/quotas/${encodeURIComponent(quotaType)}`;
}
