// The client: one per process and server.

import { Admin } from './admin.js';
import { AuditLogger } from './audit-logger.js';
import { runFlow } from './flow.js';
import { Transport } from './http.js';
import { type MetergateOptions, checkOptions } from './options.js';
import { QuotaEnforcer } from './quota-enforcer.js';
import { Recorder, type RecordingStats } from './recorder.js';
import { UsageTracker } from './usage-tracker.js';

const FLUSH_TIMEOUT_MS = 10_000;

/**
 * A client of one metergate server. Make one per process and keep it. The documented functions are its properties, and may
 * be taken off it: `const { enforceQuota, trackUsage } = new Metergate(...)`.
 */
export class Metergate {
  readonly #recorder: Recorder;
  /** Tracking calls, and reading what was used. */
  readonly usage: UsageTracker;
  /** Enforcing, reserving, settling; limits and their state. */
  readonly quota: QuotaEnforcer;
  /** Writing, reading and resolving audit events. */
  readonly audit: AuditLogger;
  /** Tenants, plans, jobs: needs an admin key. */
  readonly admin: Admin;

  /** Starts tracking one call: see `UsageTracker.trackUsage`. */
  readonly trackUsage: UsageTracker['trackUsage'];
  /** Takes an amount before the work is done: see `QuotaEnforcer.enforceQuota`. */
  readonly enforceQuota: QuotaEnforcer['enforceQuota'];
  /** Takes amounts of several types, all or nothing. */
  readonly enforceMultipleQuotas: QuotaEnforcer['enforceMultipleQuotas'];
  /** Sets a tenant's own limit. */
  readonly setCustomQuota: QuotaEnforcer['setCustomQuota'];
  /** A tenant's plan, limits, use and what is left. */
  readonly getQuotaStatus: QuotaEnforcer['getQuotaStatus'];
  /** Reserves explicitly. */
  readonly reserve: QuotaEnforcer['reserve'];
  /** Ends a reservation with what really happened. */
  readonly settle: QuotaEnforcer['settle'];
  /** Gives a reservation back. */
  readonly release: QuotaEnforcer['release'];
  /** Only looks whether an amount would fit. */
  readonly check: QuotaEnforcer['check'];
  /** Writes one audit event in the background. */
  readonly auditLog: AuditLogger['auditLog'];
  /** What happens to a tenant's trial. */
  readonly TrialAudit: AuditLogger['TrialAudit'];
  /** What happens to a knowledge base. */
  readonly KBaudit: AuditLogger['KBaudit'];
  /** What happens in a chat. */
  readonly ChatAudit: AuditLogger['ChatAudit'];
  /** What an administrator sets up. */
  readonly ConfigAudit: AuditLogger['ConfigAudit'];
  /** What went wrong. */
  readonly ErrorAudit: AuditLogger['ErrorAudit'];

  /** Fails on a browser, a missing choice, or an impossible option; connects to nothing yet. */
  constructor(options: MetergateOptions) {
    const { url, key, fetch, timeoutMs, readTimeoutMs, queueMax, onError, onUnreachable } = checkOptions(options);
    const transport = new Transport(url, key, fetch);
    this.#recorder = new Recorder(transport, { timeoutMs, queueMax, onError });
    this.usage = new UsageTracker(transport, this.#recorder, readTimeoutMs);
    this.quota = new QuotaEnforcer(transport, this.#recorder, { timeoutMs, readTimeoutMs, onUnreachable });
    this.audit = new AuditLogger(transport, this.#recorder, readTimeoutMs);
    this.admin = new Admin(transport, readTimeoutMs);

    this.trackUsage = this.usage.trackUsage;
    ({
      enforceQuota: this.enforceQuota, enforceMultipleQuotas: this.enforceMultipleQuotas, setCustomQuota: this.setCustomQuota,
      getQuotaStatus: this.getQuotaStatus, reserve: this.reserve, settle: this.settle, release: this.release, check: this.check,
    } = this.quota);
    ({
      auditLog: this.auditLog, TrialAudit: this.TrialAudit, KBaudit: this.KBaudit, ChatAudit: this.ChatAudit,
      ConfigAudit: this.ConfigAudit, ErrorAudit: this.ErrorAudit,
    } = this.audit);
  }

  /** Counters of what was recorded in the background. */
  get stats(): RecordingStats {
    return this.#recorder.stats;
  }

  /**
   * Runs work as a flow of its own. Holds made inside belong to the trackers made inside, also when `enforceQuota` is called
   * in a helper that keeps its answer to itself; holds made outside are not seen.
   */
  run<T>(work: () => T): T {
    return runFlow(work);
  }

  /** Sends everything now. True when all of it has left; false when the time (by default 10 s) ran out first. */
  flush(options: { timeoutMs?: number } = {}): Promise<boolean> {
    return this.#recorder.flush(options.timeoutMs ?? FLUSH_TIMEOUT_MS);
  }

  /** Records nothing more, and sends what is left: before the process ends. Answers as `flush`. */
  close(options: { timeoutMs?: number } = {}): Promise<boolean> {
    return this.#recorder.close(options.timeoutMs ?? FLUSH_TIMEOUT_MS);
  }
}
