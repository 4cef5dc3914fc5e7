// Every call against a real server: each answer has exactly the fields of its type.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { before, test } from 'node:test';

import {
  type AdminTenantUsage, type AdminUsage, type AuditEventRow, type AuditReport, type DenialJson, type DeniedByJson,
  type EventRow, type ExceedingTenant, type ExplanationJson, type JobStatus, type PlanLimit, type QuotaOverride, type QuotaState,
  type QuotaStatus, type ServerStatus, type Tenant, type TenantPage, type UsageRow, type UsageSummary,
} from 'metergate';

import { CRON_SECRET, client, startServer } from './support/server.js';

/** The fields of a type: the compiler demands all of them, and no other; those that may be absent are `maybe`. */
type Fields<T> = { [K in keyof T]-?: object extends Pick<T, K> ? 'maybe' : true };

function hasFields<T extends object>(value: T | undefined | null, allFields: Fields<T>): void {
  assert.ok(value !== undefined && value !== null);
  const fields = Object.fromEntries(Object.entries(allFields).filter(([name, there]) => there === true || name in value));
  assert.deepEqual(Object.keys(value).sort(), Object.keys(fields).sort(), 'src/types must say exactly what the server answers');
}

const server = await startServer();
const metergate = client(server);
const { usage, quota, audit, admin } = metergate;
const today = new Date().toISOString().slice(0, 10);

before(async () => {
  await metergate.setCustomQuota('acme', 'tokens', 1_000, { reason: 'a test', until: new Date(Date.now() + 3_600_000) });
  await usage.recordEvents([
    { tenant_id: 'acme', event_type: 'api_call', event_id: 'one', tokens_consumed: 900, cost_usd: '12.345678901234567', metadata: { cost_usd: 0.10 } },
    { tenant_id: 'acme', event_type: 'embedding', event_id: 'two', tokens_consumed: 50, model: 'e' },
    { tenant_id: 'other', event_type: 'search', event_id: 'one', tokens_consumed: 7 },
  ]);
});

const USAGE_ROW: Fields<UsageRow> = {
  metric_id: true, tenant_id: true, period_start: true, period_end: true, period_type: true, api_calls_total: true,
  api_calls_successful: true, api_calls_failed: true, api_calls_rate_limited: true, api_latency_avg_ms: true,
  api_latency_p95_ms: true, api_latency_p99_ms: true, chat_messages_sent: true, chat_messages_received: true,
  chat_sessions_created: true, chat_avg_response_time_ms: true, embeddings_generated: true, embeddings_tokens_used: true,
  semantic_searches_performed: true, kb_documents_ingested: true, kb_documents_failed: true, total_tokens_used: true,
  input_tokens: true, cached_input_tokens: true, output_tokens: true, reasoning_tokens: true, estimated_cost_usd: true,
  unpriced_events: true, quota_limit: true, quota_remaining: true, quota_exceeded_count: true, error_count: true, error_rate: true,
  peak_qps: true, created_at: true, updated_at: true, by_model: 'maybe',
};
const EVENT_ROW: Fields<EventRow> = {
  entry_id: true, event_id: true, tenant_id: true, event_type: true, event_timestamp: true, api_method: true, api_endpoint: true,
  api_status_code: true, api_response_time_ms: true, chat_session_id: true, model: true, embedding_tokens: true,
  search_query_tokens: true, search_result_count: true, tokens_consumed: true, input_tokens: true, cached_input_tokens: true,
  output_tokens: true, reasoning_tokens: true, cost_usd: true, metadata: true, created_at: true,
  provider: 'maybe', usage: 'maybe', cost_estimated: 'maybe',
};
const AUDIT_ROW: Fields<AuditEventRow> = {
  event_id: true, index: true, tenant_id: true, event_type: true, entity_type: true, entity_id: true, action: true, actor_type: true,
  actor_id: true, old_values: true, new_values: true, changes_summary: true, result: true, original_result: true,
  error_message: true, ip_address: true, user_agent: true, request_id: true, timestamp: true, occurred_at: true, key_id: true,
  resolved_at: true, resolution_action: true,
};
const QUOTA_STATE: Fields<QuotaState> = {
  quotaType: true, window: true, limit: true, used: true, held: true, remaining: true, percentage: true, resetsAt: true,
  thresholds: 'maybe', thresholdsCrossed: 'maybe',
};
const TENANT: Fields<Tenant> = {
  tenant_id: true, name: true, labels: true, plan: true, plan_expires_at: true, price_terms: true, zone: true, status: true, mode: true, overrides: true,
  created_at: true, updated_at: true, thresholds: 'maybe',
};

test('usage reads', async () => {
  const [row] = await usage.getTenantUsage('acme', today, today, 'hourly');
  hasFields<UsageRow>(row, USAGE_ROW);
  assert.equal((await usage.getTodayUsage('acme')).total_tokens_used, 950);
  const [month] = await usage.getTenantUsage('acme', undefined, undefined, 'monthly');
  assert.equal(month?.estimated_cost_usd, '12.345678901234567');
  assert.equal((await usage.getTenantUsage('acme', new Date(0), new Date(1))).length, 0);
  await assert.rejects(usage.getTodayUsage('nobody'), { status: 404, code: 'tenant_unknown' });
  await assert.rejects(usage.getTenantUsage('acme', 'yesterday'), { status: 400, details: { field: 'startDate' } });

  const events = await usage.getTenantEvents('acme');
  assert.deepEqual(events.map((event) => event.event_id), ['two', 'one']);
  hasFields<EventRow>(events[0], EVENT_ROW);
  assert.deepEqual([events[1]?.cost_usd, events[1]?.metadata], ['12.345678901234567', { cost_usd: 0.1 }]);
  assert.deepEqual((await usage.getTenantEvents('acme', today, today, 'embedding', 1)).map((event) => event.event_id), ['two']);
  const first = await usage.getTenantEventsPage('acme', { limit: 1 });
  assert.ok(first.next_cursor !== null);
  const second = await usage.getTenantEventsPage('acme', { limit: 1, cursor: first.next_cursor });
  assert.deepEqual([second.events[0]?.event_id, second.next_cursor], ['one', null]);

  const { top_consumers, ...summary } = await usage.getMultiTenantStats('daily', 1);
  hasFields<UsageSummary>(summary, { total_tenants: true, total_api_calls: true, total_tokens: true, total_cost: true, avg_latency_ms: true });
  assert.deepEqual([summary.total_tokens, summary.total_cost], [957, '12.345678901234567']);
  assert.deepEqual(top_consumers, [{ tenant_id: 'acme', total_tokens_used: 950 }]);
  assert.deepEqual(await usage.getTopConsumers('api_calls'), [{ tenant_id: 'acme', api_calls_total: 2 }, { tenant_id: 'other', api_calls_total: 1 }]);
  const [costliest] = await usage.getTopConsumers('cost', 'monthly', 1);
  assert.deepEqual(costliest, { tenant_id: 'acme', estimated_cost_usd: '12.345678901234567' });
});

test('quotas: a denial, its explanation, who exceeds', async () => {
  const denied = await metergate.enforceQuota('acme', 'tokens', 500);
  assert.equal(denied.allowed, false);
  const { decisionId, deniedBy, ...rest } = denied;
  const [limit] = deniedBy ?? [];
  assert.ok(decisionId !== undefined && limit !== undefined);
  assert.deepEqual({ ...limit, resetsAt: '' }, {
    quotaType: 'tokens', window: 'day', limit: 1_000, used: 950, held: 0, remaining: 50, asked: 500, resetsAt: '', scope: 'tenant',
  });
  assert.equal(rest.code, 'quota_exceeded');
  assert.deepEqual([rest.tokensRemaining, rest.quotaLimit], [50, 1_000]);

  const explanation = await quota.explainDenial('acme', { decisionId });
  hasFields<ExplanationJson>(explanation, { tenant_id: true, explanation: true, denial: true, usage: true, holds: true, others: true });
  hasFields<DenialJson>(explanation.denial, { decision_id: true, request_id: true, at: true, observed: true, denials: true, denied_by: true });
  hasFields<DeniedByJson>(explanation.denial.denied_by, {
    scope: 'maybe', quota_type: true, window: true, limit: 'maybe', used: 'maybe', held: 'maybe', remaining: 'maybe', resets_at: true,
    asked: true,
  });
  hasFields<ExplanationJson['usage']>(explanation.usage, {
    from: true, to: true, events: true, amount: true, complete: true, event_types: true, models: true, sessions: true,
  });
  assert.equal((await quota.explainDenial('acme')).denial.decision_id, decisionId);

  await usage.recordEvents({ tenant_id: 'acme', event_type: 'api_call', event_id: 'three', tokens_consumed: 50 });
  const [exceeding] = await usage.getTenantExceedingQuota();
  hasFields<ExceedingTenant>(exceeding, {
    tenant_id: true, quota_limit: true, quota_remaining: true, total_tokens_used: true, quota_exceeded_count: true,
  });

  const status = await metergate.getQuotaStatus('acme');
  hasFields<QuotaStatus>(status, { plan: true, status: true, quotas: true, limits: true, anyExceeded: true });
  hasFields<QuotaState>(status.quotas.cost, QUOTA_STATE);
  assert.deepEqual(Object.keys(status.quotas).sort(), ['api_calls', 'chat_messages', 'cost', 'embeddings', 'tokens']);
  assert.equal(status.anyExceeded, true);
  assert.equal((await metergate.check('acme', 'tokens', 1)).allowed, false);
});

test('custom quotas: of cost with every digit, in a window, removed again', async () => {
  const tenant = await metergate.setCustomQuota('rich', 'cost', '12.345678901234567', { window: 'day' });
  hasFields<Tenant>(tenant, TENANT);
  hasFields<QuotaOverride>(tenant.overrides[0], { quota_type: true, window: true, limit: true, reason: true, until: true, set_at: true });
  const granted = await metergate.reserve('rich', [{ type: 'cost', amount: '0.1' }, { type: 'tokens', amount: '5' }]);
  assert.deepEqual([granted.allowed, granted.results.tokens?.tokensRemaining], [true, 9_995]);
  await metergate.setCustomQuota('rich', 'tokens', null);
  assert.equal((await metergate.check('rich', 'tokens', 1_000_000)).tokensRemaining, -1);
  const back = await quota.removeCustomQuota('rich', 'tokens');
  assert.deepEqual(back.overrides.map((override) => override.quota_type), ['cost']);
  assert.deepEqual((await quota.removeCustomQuota('rich', 'cost', 'day')).overrides, []);
});

test('the audit log: every builder, reads, report, resolution', async () => {
  const { TrialAudit, KBaudit, ChatAudit, ConfigAudit, ErrorAudit } = metergate;
  const ids = await Promise.all([
    TrialAudit.created('audited', 'trial'), TrialAudit.upgraded('audited', 'trial', 'pro'),
    TrialAudit.extended('audited', null, new Date(0)), TrialAudit.expired('audited'), TrialAudit.cancelled('audited', 'too dear'),
    KBaudit.uploaded('audited', 'kb', 'a.pdf', 9), KBaudit.uploadFailed('audited', 'kb', 'b.pdf', 'broken'),
    KBaudit.crawled('audited', 'job', 'https://example.com', 3, 1), KBaudit.manualAdded('audited', 'kb', 'Title'), KBaudit.deleted('audited', 'kb'),
    ChatAudit.sessionCreated('audited', 's', 'v'), ChatAudit.messageReceived('audited', 's', 'v', 12),
    ChatAudit.responseSent('audited', 's', 30, 400), ChatAudit.sessionEnded('audited', 's', 2),
    ConfigAudit.brandingUpdated('audited', 'admin@example.com', { a: 1 }, { a: 2 }),
    ConfigAudit.toolsAssigned('audited', 'admin@example.com', ['search']), ConfigAudit.widgetGenerated('audited', 'admin@example.com', 'w'),
    ErrorAudit.apiError('audited', '/api/chat', 500, 'broken'), ErrorAudit.quotaExceeded('audited', 'tokens', 10, 9, 3),
    ErrorAudit.securityViolation('audited', '/api/chat', 'forged', '192.0.2.7'),
  ]);
  const report = await audit.generateAuditReport('audited', today);
  hasFields<AuditReport>(report, {
    tenant_id: true, from: true, to: true, total: true, by_type: true, by_action: true, successes: true, failures: true, events: true,
  });
  assert.deepEqual(Object.keys(report.by_type).sort(), [
    'api_error', 'branding_updated', 'chat_message_received', 'chat_response_sent', 'chat_session_created', 'chat_session_ended',
    'kb_crawled', 'kb_deleted', 'kb_manual_added', 'kb_upload_failed', 'kb_uploaded', 'quota_exceeded', 'security_violation',
    'tools_assigned', 'trial_cancelled', 'trial_created', 'trial_expired', 'trial_extended', 'trial_upgraded', 'widget_generated',
  ]);
  assert.deepEqual([report.total, report.failures], [20, 4]);
  hasFields<AuditEventRow>(report.events[0], AUDIT_ROW);
  assert.deepEqual(report.events.map((event) => event.event_id).sort(), [...ids].sort());

  const [exceeded] = await audit.getAuditEvents({ tenantId: 'audited', eventType: 'quota_exceeded' });
  assert.ok(exceeded !== undefined);
  assert.deepEqual(exceeded.new_values, { quota_type: 'tokens', limit: 10, used: 9, exceeded_by: 2 });
  const [visitor] = await audit.getAuditEvents({ actorType: 'visitor', actorId: 'v', action: 'access', entityId: 's' });
  assert.deepEqual(visitor?.new_values, { characters: 12 });
  assert.deepEqual((await audit.getSecurityEvents('audited')).map((event) => event.event_type).sort(), ['quota_exceeded', 'security_violation']);
  assert.equal((await audit.getTenantAuditTrail('audited', 7, 5)).length, 5);
  assert.equal((await audit.getFailedOperations('audited')).length, 4);
  const page = await audit.getAuditEventsPage({ tenantId: 'audited', limit: 3 });
  assert.ok(page.next_cursor !== null);
  assert.equal((await audit.getAuditEventsPage({ tenantId: 'audited', limit: 100, cursor: page.next_cursor })).events.length, 17);
  assert.equal((await audit.getAuditEvents({ tenantId: 'audited' }, 2)).length, 2);

  const eventId = exceeded.event_id;
  assert.equal(await audit.resolveAuditEvent(eventId, 'limit raised'), true);
  assert.equal(await audit.resolveAuditEvent(eventId, 'again', 'audited'), false);
  const [resolved] = await audit.getAuditEvents({ eventId });
  assert.deepEqual([resolved?.result, resolved?.original_result, resolved?.resolution_action], ['resolved', 'failure', 'limit raised']);
  await assert.rejects(audit.resolveAuditEvent(randomUUID(), 'x'), { status: 404, code: 'audit_event_unknown' });

  const own = randomUUID();
  const event = { event_id: own, event_type: 'own_type', entity_type: 'thing', action: 'access', tenant_id: 'audited' } as const;
  assert.equal((await audit.recordAuditEvents(event)).accepted, 1);
  assert.equal((await audit.recordAuditEvents([event])).duplicates, 1);
});

test('the admin routes', async () => {
  hasFields<AdminTenantUsage>(await admin.getTenantOverview('acme', { period: 'hourly' }), {
    tenantId: true, period: true, usage: true, quota: true, recentEvents: true, timestamp: true,
  });
  hasFields<AdminUsage>(await admin.getUsage(), { period: true, summary: 'maybe', topConsumers: true, exceedingQuota: 'maybe', timestamp: true });
  assert.deepEqual(Object.keys(await admin.getUsage({ metric: 'cost' })).sort(), ['period', 'timestamp', 'topConsumers']);

  const tenant = await admin.putTenant('named', { name: 'Named', labels: { a: 'b' }, plan: 'starter', zone: 'Asia/Kathmandu', plan_expires_at: null });
  hasFields<Tenant>(tenant, TENANT);
  assert.deepEqual(await admin.getTenant('named'), tenant);
  const page = await admin.listTenants({ limit: 1 });
  hasFields<TenantPage>(page, { tenants: true, next_cursor: true, total: true });
  assert.equal((await admin.listTenants({ limit: 1, after: page.next_cursor ?? '' })).tenants.length, 1);
  const found = await admin.listTenants({ search: 'NAMED', plan: 'starter', status: 'active', label: 'a=b' });
  assert.deepEqual([found.tenants[0]?.tenant_id, found.total], ['named', 1]);
  assert.equal((await admin.deleteTenant('named')).status, 'deleted');

  const lines = (await admin.exportTenant('acme')).trimEnd().split('\n').map((line) => JSON.parse(line) as { kind: string });
  assert.deepEqual([lines[0]?.kind, lines.at(-1)?.kind], ['export', 'end']);
  await assert.rejects(admin.exportTenant('nobody'), { status: 404, code: 'tenant_unknown' });

  const limits = [{ quota_type: 'cost', window: 'month', limit: '0.5' }] as const;
  const dry = await admin.putPlan('tiny', { limits }, { dryRun: true });
  assert.deepEqual([dry.applied, dry.effect], [false, { tenants: 0, exceeded_before: 0, exceeded_after: 0 }]);
  const made = await admin.putPlan('tiny', { limits, mode: 'observe' });
  hasFields<PlanLimit>(made.plan.limits[0], { quota_type: true, window: true, limit: true, mode: 'maybe' });
  assert.ok((await admin.listPlans()).some((plan) => plan.name === 'tiny'));
  await admin.removePlan('tiny');

  const { jobs, alarms } = await admin.listJobs();
  // An event above names a model that no price is known of.
  assert.deepEqual(alarms.map(({ code }) => code), ['models_unpriced']);
  hasFields<JobStatus>(jobs[0], {
    job: true, schedule: true, running: true, last_started: true, last_finished: true, result: true, rows: true, error: true,
    last_success: true, failures: true, next_run: true, overlaps_refused: true,
  });
  const run = await admin.runJob({ job: 'aggregate_usage_metrics', from: today, to: today });
  assert.deepEqual(Object.keys(run).sort(), ['hours_skipped', 'job', 'rows_written']);
  hasFields<ServerStatus>(await admin.status(), {
    version: true, uptime_seconds: true, timestamp: true, ready: true, tenants: true, events_today: true,
    unpriced_events_today: true, format_version: true, unfiled_generations: true,
    store_file_bytes: true, store_free_bytes: true, store_reopened: true, platform: 'maybe', alarms: true, jobs: true,
  });
  assert.equal((await admin.verify()).differences_total, 0);
  assert.equal((await admin.aggregationHealth()).status, 'healthy');
  assert.equal((await admin.runAggregation(CRON_SECRET)).success, true);
  await assert.rejects(admin.runAggregation('wrong'), { status: 401, message: 'Unauthorized' });
  assert.match(await admin.metrics(), /^metergate_events_total/m);
  assert.equal(await admin.isReady(), true);
});
