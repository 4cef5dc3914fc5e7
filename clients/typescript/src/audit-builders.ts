// The documented audit builders: entries of known types with their values and summaries, written by an AuditLogger.

import type { AuditAction, AuditEntry, AuditPayload } from './types/audit.js';
import type { QuotaType } from './types/quota.js';

type Write = (entry: AuditEntry) => Promise<string>;
type More = Omit<AuditPayload, 'entityType' | 'entityId' | 'action'>;

function build(
  eventType: string, [entityType, entityId]: readonly [string, string], action: AuditAction, more: More,
): AuditEntry {
  return { eventType, payload: { entityType, entityId, action, ...more } };
}

/** What happens to a tenant's trial. Each method writes one audit event and answers its id. */
export class TrialAudit {
  readonly #write: Write;

  /** Made by its client. @internal */
  constructor(write: Write) {
    this.#write = write;
  }

  /** Writes `trial_created`. */
  created(tenantId: string, plan = 'trial'): Promise<string> {
    const more = { newValues: { plan }, changesSummary: `Trial created on plan ${plan}` };
    return this.#log(tenantId, 'trial_created', 'create', more);
  }

  /** Writes `trial_upgraded`: "Plan upgraded from X to Y". */
  upgraded(tenantId: string, from: string, to: string): Promise<string> {
    const more = { oldValues: { plan: from }, newValues: { plan: to }, changesSummary: `Plan upgraded from ${from} to ${to}` };
    return this.#log(tenantId, 'trial_upgraded', 'update', more);
  }

  /** Writes `trial_extended`. */
  extended(tenantId: string, from: Date | string | null, to: Date | string): Promise<string> {
    const [before, after] = [from === null ? null : timeText(from), timeText(to)];
    const more = { oldValues: { expires_at: before }, newValues: { expires_at: after }, changesSummary: `Trial extended to ${after}` };
    return this.#log(tenantId, 'trial_extended', 'update', more);
  }

  /** Writes `trial_expired`. */
  expired(tenantId: string): Promise<string> {
    return this.#ended(tenantId, 'expired', 'Trial expired');
  }

  /** Writes `trial_cancelled`. */
  cancelled(tenantId: string, reason?: string): Promise<string> {
    return this.#ended(tenantId, 'cancelled', reason === undefined ? 'Trial cancelled' : `Trial cancelled: ${reason}`);
  }

  #ended(tenantId: string, status: string, changesSummary: string): Promise<string> {
    const more = { oldValues: { status: 'active' }, newValues: { status }, changesSummary };
    return this.#log(tenantId, `trial_${status}`, 'update', more);
  }

  #log(tenantId: string, eventType: string, action: AuditAction, more: More): Promise<string> {
    return this.#write(build(eventType, ['trial', tenantId], action, { tenantId, ...more }));
  }
}

/** What happens to a knowledge base. Each method writes one audit event and answers its id. */
export class KBaudit {
  readonly #write: Write;

  /** Made by its client. @internal */
  constructor(write: Write) {
    this.#write = write;
  }

  /** Writes `kb_uploaded`. */
  uploaded(tenantId: string, kbId: string, fileName: string, bytes: number): Promise<string> {
    const more = { tenantId, newValues: { file_name: fileName, bytes }, changesSummary: `Uploaded ${fileName}` };
    return this.#write(build('kb_uploaded', ['knowledge_base', kbId], 'create', more));
  }

  /** Writes `kb_upload_failed`. */
  uploadFailed(tenantId: string, kbId: string, fileName: string, error: string): Promise<string> {
    const changesSummary = `Upload of ${fileName} failed`;
    const more: More = { tenantId, newValues: { file_name: fileName }, result: 'failure', errorMessage: error, changesSummary };
    return this.#write(build('kb_upload_failed', ['knowledge_base', kbId], 'error', more));
  }

  /** Writes `kb_crawled`; with pages that failed, the result is partial. */
  crawled(tenantId: string, crawlId: string, url: string, pages: number, pagesFailed = 0): Promise<string> {
    const some = pages > 0 ? 'partial' : 'failure';
    const more: More = {
      tenantId,
      newValues: { url, pages, pages_failed: pagesFailed },
      result: pagesFailed === 0 ? 'success' : some,
      changesSummary: `Crawled ${url}: ${pages} pages, ${pagesFailed} failed`,
    };
    return this.#write(build('kb_crawled', ['crawl_job', crawlId], 'create', more));
  }

  /** Writes `kb_manual_added`. */
  manualAdded(tenantId: string, kbId: string, title: string): Promise<string> {
    const more = { tenantId, newValues: { title }, changesSummary: `Added ${title}` };
    return this.#write(build('kb_manual_added', ['knowledge_base', kbId], 'create', more));
  }

  /** Writes `kb_deleted`. */
  deleted(tenantId: string, kbId: string): Promise<string> {
    const more = { tenantId, changesSummary: 'Knowledge base deleted' };
    return this.#write(build('kb_deleted', ['knowledge_base', kbId], 'delete', more));
  }
}

/** What happens in a chat, never what is said in it. Each method writes one audit event and answers its id. */
export class ChatAudit {
  readonly #write: Write;

  /** Made by its client. @internal */
  constructor(write: Write) {
    this.#write = write;
  }

  /** Writes `chat_session_created`. */
  sessionCreated(tenantId: string, sessionId: string, visitorId?: string | null): Promise<string> {
    const more: More = { ...visitor(visitorId), changesSummary: 'Chat session created' };
    return this.#log(tenantId, sessionId, 'chat_session_created', 'create', more);
  }

  /** Writes `chat_message_received`. */
  messageReceived(tenantId: string, sessionId: string, visitorId: string | null, characters: number): Promise<string> {
    const more: More = { ...visitor(visitorId), newValues: { characters }, changesSummary: 'Message received' };
    return this.#log(tenantId, sessionId, 'chat_message_received', 'access', more);
  }

  /** Writes `chat_response_sent`. */
  responseSent(tenantId: string, sessionId: string, tokens: number, responseTimeMs: number): Promise<string> {
    const more: More = { newValues: { tokens, response_time_ms: responseTimeMs }, changesSummary: 'Response sent' };
    return this.#log(tenantId, sessionId, 'chat_response_sent', 'create', more);
  }

  /** Writes `chat_session_ended`. */
  sessionEnded(tenantId: string, sessionId: string, messages: number): Promise<string> {
    const more: More = { newValues: { messages }, changesSummary: 'Chat session ended' };
    return this.#log(tenantId, sessionId, 'chat_session_ended', 'update', more);
  }

  #log(tenantId: string, sessionId: string, eventType: string, action: AuditAction, more: More): Promise<string> {
    return this.#write(build(eventType, ['chat_session', sessionId], action, { tenantId, ...more }));
  }
}

/** What an administrator sets up. Each method writes one audit event and answers its id. */
export class ConfigAudit {
  readonly #write: Write;

  /** Made by its client. @internal */
  constructor(write: Write) {
    this.#write = write;
  }

  /** Writes `branding_updated`. */
  brandingUpdated(tenantId: string, admin: string, oldValues: unknown, newValues: unknown): Promise<string> {
    return this.#log(tenantId, admin, 'branding_updated', 'update', { oldValues, newValues, changesSummary: 'Branding updated' });
  }

  /** Writes `tools_assigned`. */
  toolsAssigned(tenantId: string, admin: string, tools: readonly string[]): Promise<string> {
    const more = { newValues: { tools }, changesSummary: `Tools assigned: ${tools.join(', ')}` };
    return this.#log(tenantId, admin, 'tools_assigned', 'update', more);
  }

  /** Writes `widget_generated`. */
  widgetGenerated(tenantId: string, admin: string, widgetId: string): Promise<string> {
    const more = { newValues: { widget_id: widgetId }, changesSummary: 'Widget generated' };
    return this.#log(tenantId, admin, 'widget_generated', 'create', more, widgetId);
  }

  #log(
    tenantId: string, admin: string, eventType: string, action: AuditAction, more: More, entityId = tenantId,
  ): Promise<string> {
    const whole: More = { tenantId, actorType: 'admin', actorId: admin, ...more };
    return this.#write(build(eventType, ['widget_config', entityId], action, whole));
  }
}

/** What went wrong. Each method writes one audit event and answers its id. */
export class ErrorAudit {
  readonly #write: Write;

  /** Made by its client. @internal */
  constructor(write: Write) {
    this.#write = write;
  }

  /** Writes `api_error`. */
  apiError(tenantId: string, endpoint: string, statusCode: number, error: string): Promise<string> {
    const changesSummary = `${endpoint} answered ${statusCode}`;
    const more: More = { tenantId, newValues: { status_code: statusCode }, errorMessage: error, changesSummary };
    return this.#log('api_error', ['api_endpoint', endpoint], more);
  }

  /** Writes `quota_exceeded` with `{quota_type, limit, used, exceeded_by}`. */
  quotaExceeded(tenantId: string, quotaType: QuotaType, limit: number, used: number, asked: number): Promise<string> {
    const exceededBy = Math.max(0, used + asked - limit);
    return this.#log('quota_exceeded', ['usage_quota', quotaType], {
      tenantId,
      newValues: { quota_type: quotaType, limit, used, exceeded_by: exceededBy },
      errorMessage: `Quota exceeded: ${quotaType}`,
      changesSummary: `${quotaType} exceeded by ${exceededBy}`,
    });
  }

  /** Writes `security_violation`, with the address it came from. */
  securityViolation(tenantId: string, endpoint: string, violation: string, ipAddress?: string): Promise<string> {
    return this.#log('security_violation', ['api_endpoint', endpoint], {
      tenantId,
      newValues: { violation },
      errorMessage: violation,
      changesSummary: `Security violation at ${endpoint}`,
      ...(ipAddress === undefined ? {} : { ipAddress }),
    });
  }

  #log(eventType: string, entity: readonly [string, string], more: More): Promise<string> {
    return this.#write(build(eventType, entity, 'error', { result: 'failure', ...more }));
  }
}

function visitor(visitorId: string | null | undefined): More {
  return { actorType: 'visitor', ...(visitorId === null || visitorId === undefined ? {} : { actorId: visitorId }) };
}

function timeText(time: Date | string): string {
  return time instanceof Date ? time.toISOString() : time;
}
