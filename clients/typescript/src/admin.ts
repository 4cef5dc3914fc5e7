// What an admin key may do beside the three utilities, by the names of the HTTP API.

import type { Transport } from './http.js';
import type {
  AdminTenantUsage, AdminUsage, AdminUsageQuery, AggregationHealth, AggregationRun, Alarm, AlertPage, AlertQuery, ApiKey,
  JobRequest, JobRun, JobStatus, KeyPage, KeyRequest, MadeKey, Plan, PlanChange, PlanChanged, ServerStatus, Tenant, TenantChange, TenantPage, TenantQuery, Verification,
} from './types/admin.js';

/** How long an export may take. */
const EXPORT_TIMEOUT_MS = 600_000;

/** The admin routes; fails when the server does. */
export class Admin {
  readonly #transport: Transport;
  readonly #timeoutMs: number;

  /** Made by its client. @internal */
  constructor(transport: Transport, timeoutMs: number) {
    this.#transport = transport;
    this.#timeoutMs = timeoutMs;
  }

  /** Everything about one tenant. */
  getTenantOverview(tenantId: string, query: Omit<AdminUsageQuery, 'metric' | 'limit'> = {}): Promise<AdminTenantUsage> {
    return this.#get('/api/admin/usage', { ...query, tenantId });
  }

  /** Usage, cost and quotas over all tenants. */
  getUsage(query: AdminUsageQuery = {}): Promise<AdminUsage> {
    return this.#get('/api/admin/usage', { ...query });
  }

  /** A page of tenants, in order of their ids. */
  listTenants(query: TenantQuery = {}): Promise<TenantPage> {
    return this.#get('/api/admin/tenants', { ...query });
  }

  /** One tenant. */
  getTenant(tenantId: string): Promise<Tenant> {
    return this.#get(tenantPath(tenantId));
  }

  /** Registers or changes a tenant; what is not named stays. */
  putTenant(tenantId: string, change: TenantChange): Promise<Tenant> {
    return this.#send('PUT', tenantPath(tenantId), change);
  }

  /** Leaves a tombstone, which only `putTenant` revives. */
  deleteTenant(tenantId: string): Promise<Tenant> {
    return this.#send('DELETE', tenantPath(tenantId));
  }

  /** Everything held of a tenant, as JSON Lines; all of it in memory. Its last line has the kind `end`. */
  async exportTenant(tenantId: string): Promise<string> {
    return (await this.#transport.whole({ method: 'GET', path: `${tenantPath(tenantId)}/export`, timeoutMs: EXPORT_TIMEOUT_MS })).text;
  }

  /** The plans in force. */
  async listPlans(): Promise<Plan[]> {
    return (await this.#get<{ plans: Plan[] }>('/api/admin/plans')).plans;
  }

  /** Makes a plan or replaces its limits; a dry run only shows the effect. */
  putPlan(name: string, plan: PlanChange, options: { dryRun?: boolean } = {}): Promise<PlanChanged> {
    return this.#send('PUT', `/api/admin/plans/${encodeURIComponent(name)}`, plan, { dry_run: options.dryRun });
  }

  /** Removes a plan that no tenant is on. */
  async removePlan(name: string): Promise<void> {
    await this.#send('DELETE', `/api/admin/plans/${encodeURIComponent(name)}`);
  }

  /** A page of keys without their secrets, in order of creation, the built-in key first. */
  listKeys(query: { limit?: number; cursor?: string } = {}): Promise<KeyPage> {
    return this.#get('/api/admin/keys', query);
  }

  /** Makes a key; its secret is in the answer, this once. */
  createKey(request: KeyRequest): Promise<MadeKey> {
    return this.#send('POST', '/api/admin/keys', request);
  }

  /** Puts a new key in a key's place; the old one works for the overlap, by default a day. */
  rotateKey(keyId: string, options: { overlapSeconds?: number } = {}): Promise<MadeKey> {
    const body = { overlap_seconds: options.overlapSeconds };
    return this.#send('POST', `/api/admin/keys/${encodeURIComponent(keyId)}/rotate`, body);
  }

  /** Ends a key at once. */
  revokeKey(keyId: string): Promise<ApiKey> {
    return this.#send('DELETE', `/api/admin/keys/${encodeURIComponent(keyId)}`);
  }

  /** Thresholds of limits that were crossed, newest first. */
  listAlerts(query: AlertQuery = {}): Promise<AlertPage> {
    return this.#get('/api/admin/alerts', { ...query });
  }

  /** Each job's last run, result and next run, and the alarms. */
  listJobs(): Promise<{ jobs: JobStatus[]; alarms: Alarm[] }> {
    return this.#get('/api/admin/jobs');
  }

  /** Runs a job now, or confirms the clock. */
  runJob(request: JobRequest): Promise<JobRun> {
    return this.#send('POST', '/api/admin/jobs', request);
  }

  /** The server on one screen. */
  status(): Promise<ServerStatus> {
    return this.#get('/api/admin/status');
  }

  /** Recomputes what can be recomputed and reports every difference. */
  verify(): Promise<Verification> {
    return this.#send('POST', '/api/admin/verify');
  }

  /** Whether usage flows in and is aggregated. */
  aggregationHealth(): Promise<AggregationHealth> {
    return this.#get('/api/admin/metrics/aggregate');
  }

  /** The cron job's door: aggregates, then cleans up. Its secret is the server's `CRON_SECRET`. */
  runAggregation(cronSecret: string): Promise<AggregationRun> {
    return this.#transport.get({
      method: 'POST', path: '/api/admin/metrics/aggregate', timeoutMs: this.#timeoutMs, headers: { 'x-cron-secret': cronSecret },
    });
  }

  /** Prometheus text. */
  async metrics(): Promise<string> {
    return (await this.#transport.whole({ method: 'GET', path: '/metrics', timeoutMs: this.#timeoutMs })).text;
  }

  /** Whether writes are possible; false also when the server cannot be reached. */
  async isReady(): Promise<boolean> {
    try {
      return (await this.#transport.send({ method: 'GET', path: '/readyz', timeoutMs: this.#timeoutMs })).status === 200;
    } catch {
      return false;
    }
  }

  #get<T>(path: string, query: Parameters<Transport['get']>[0]['query'] = {}): Promise<T> {
    return this.#transport.get<T>({ method: 'GET', path, query, timeoutMs: this.#timeoutMs });
  }

  #send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown, query: Record<string, boolean | undefined> = {}): Promise<T> {
    return this.#transport.get<T>({ method, path, query, body, timeoutMs: this.#timeoutMs });
  }
}

function tenantPath(tenantId: string): string {
  return `/api/admin/tenants/${encodeURIComponent(tenantId)}`;
}
