// Which holds belong to which async flow.
//
// `enforceQuota` reserves under an id of its own. Whoever reads `allowed` of its answer is the flow that goes on with the
// work, so the hold is tied there and then: to the reader's flow and what that flow starts afterwards, never to the code
// that started it. (Entering the context already inside `enforceQuota` would leak it to the caller's caller, and with it to
// the next request of the same socket or loop.) Trackers of that flow then settle the hold, each hold once.

import { AsyncLocalStorage } from 'node:async_hooks';

import type { QuotaType } from './types/quota.js';

/** One reservation that waits for its tracker. @internal */
export interface Hold {
  /** The client that made it. */
  readonly owner: object;
  /** Whose. */
  readonly tenantId: string;
  /** Its handle. */
  readonly reservationId: string;
  /** What it holds. */
  readonly quotaTypes: readonly QuotaType[];
  /** Of `performance.now()`: when it lapses by itself. */
  readonly lapsesAt: number;
  /** Whether a tracker has it. */
  taken: boolean;
}

interface Flow {
  /** Of `run`: every hold made inside. */
  readonly scope: Hold[] | undefined;
  /** Whose answer this flow has read, oldest first. */
  readonly holds: readonly Hold[];
}

/** More unfinished holds than this in one flow are left to lapse. */
const HOLDS_MAX = 64;
const FLOWS = Symbol.for('metergate.flows.1');

/** One for the process, also where it loads this package twice (ESM and CommonJS, or two bundles). */
function flows(): AsyncLocalStorage<Flow> {
  const place = globalThis as { [FLOWS]?: AsyncLocalStorage<Flow> };
  let storage = place[FLOWS];
  if (storage === undefined) {
    storage = new AsyncLocalStorage<Flow>();
    place[FLOWS] = storage;
    // Switches tracking on now, before the first flow begins.
    storage.run({ scope: undefined, holds: [] }, () => undefined);
  }
  return storage;
}

flows();

function isLive(hold: Hold): boolean {
  return !hold.taken && performance.now() < hold.lapsesAt;
}

/** Whether holds can be tied here: some runtimes only know `run`. @internal */
export function canTie(): boolean {
  return flows().getStore()?.scope !== undefined || typeof (flows() as { enterWith?: unknown }).enterWith === 'function';
}

/** Notes a hold that was granted; inside `run` the scope knows it even when nobody reads the answer. @internal */
export function made(hold: Hold): void {
  const scope = flows().getStore()?.scope;
  if (scope !== undefined && scope.length < HOLDS_MAX) {
    scope.push(hold);
  }
}

/** Ties a hold to the flow that is running. @internal */
export function tie(hold: Hold): void {
  const storage = flows();
  const flow = storage.getStore();
  if (!isLive(hold) || flow?.holds.includes(hold) === true || typeof (storage as { enterWith?: unknown }).enterWith !== 'function') {
    return;
  }
  const before = (flow?.holds ?? []).filter(isLive).slice(1 - HOLDS_MAX);
  storage.enterWith({ scope: flow?.scope, holds: [...before, hold] });
}

/** Takes the running flow's newest hold of each quota type that is not covered yet. @internal */
export function take(owner: object, tenantId: string, covered: Set<QuotaType>): Hold[] {
  const flow = flows().getStore();
  const taken: Hold[] = [];
  for (const hold of [...(flow?.scope ?? []), ...(flow?.holds ?? [])].reverse()) {
    const fits = hold.owner === owner && hold.tenantId === tenantId && isLive(hold);
    if (fits && !hold.quotaTypes.some((type) => covered.has(type))) {
      hold.taken = true;
      hold.quotaTypes.forEach((type) => covered.add(type));
      taken.push(hold);
    }
  }
  return taken;
}

/** Runs work as a flow of its own, which sees no hold made outside. @internal */
export function runFlow<T>(work: () => T): T {
  return flows().run({ scope: [], holds: [] }, work);
}
