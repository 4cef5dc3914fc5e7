CREATE TABLE tenant_usage_realtime (
    entry_id bigserial PRIMARY KEY, tenant_id text NOT NULL, event_type varchar(50) NOT NULL,
    event_timestamp timestamptz NOT NULL, api_method varchar(10), api_endpoint varchar(255), api_status_code int,
    api_response_time_ms int, chat_session_id text, embedding_tokens bigint, search_query_tokens bigint,
    search_result_count int, tokens_consumed bigint, cost_usd numeric, created_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX realtime_by_tenant ON tenant_usage_realtime (tenant_id, event_timestamp DESC);
CREATE INDEX realtime_by_type ON tenant_usage_realtime (event_type, event_timestamp DESC);
CREATE TABLE tenant_usage_metrics (
    metric_id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id text NOT NULL, period_start timestamptz NOT NULL,
    period_end timestamptz NOT NULL, period_type text NOT NULL, api_calls_total bigint, api_calls_successful bigint,
    api_calls_failed bigint, api_calls_rate_limited bigint, api_latency_avg_ms float8, api_latency_p95_ms float8,
    api_latency_p99_ms float8, chat_messages_sent bigint, total_tokens_used bigint, error_count bigint,
    UNIQUE (tenant_id, period_start, period_type));
CREATE TABLE quota_today (tenant_id text PRIMARY KEY, used bigint NOT NULL, allowed bigint NOT NULL);
CREATE FUNCTION take_quota(wanted_tenant text, amount bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    UPDATE quota_today SET used = used + amount WHERE tenant_id = wanted_tenant AND used + amount <= allowed;
    RETURN FOUND;
END $$;
CREATE FUNCTION check_tenant_quota(wanted_tenant text, amount bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT used + amount <= allowed FROM quota_today WHERE tenant_id = wanted_tenant);
END $$;
