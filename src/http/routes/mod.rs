//! The routes on one page: what each asks of its caller, and where it is answered.

mod admin_plans;
mod admin_prices;
mod admin_tenants;
mod admin_usage;
mod alerts;
mod audit;
mod audit_proofs;
mod backups;
mod dev_clock;
mod erase;
mod events;
mod export;
mod health;
mod jobs;
mod keys;
mod lines;
mod metrics;
mod metrics_aggregate;
mod openai;
mod quota;
mod reservations;
mod status;
mod tenant_prices;
mod usage;
mod widget;

use axum::routing::{MethodRouter, delete, get, post, put};

use super::HttpState;
use super::auth::{Role, TenantCheck};
use super::error::ApiError;
use crate::gateway::Endpoint;

/// One route.
pub struct RouteInfo {
    /// In capitals.
    pub method: &'static str,
    /// With `{name}` for what varies.
    pub path: &'static str,
    /// What it asks of its caller.
    pub role: Role,
    /// Where it is checked that what is asked for is of a tenant of the caller's.
    pub tenants: TenantCheck,
    /// Its name in clients, commands and traces.
    pub operation_id: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    endpoint: fn() -> MethodRouter<HttpState>,
}

impl RouteInfo {
    /// Whether it exists only where the clock can be moved: under `serve --dev`.
    pub fn is_for_development(&self) -> bool {
        self.path.starts_with("/api/dev/")
    }

    /// What answers it, without its lock.
    pub(super) fn endpoint(&self) -> MethodRouter<HttpState> {
        (self.endpoint)()
    }
}

macro_rules! routes {
    ($($method:literal $path:literal $role:ident $tenants:ident $operation:ident $summary:literal => $endpoint:expr;)*) => {
        &[$(RouteInfo {
            method: $method,
            path: $path,
            role: Role::$role,
            tenants: TenantCheck::$tenants,
            operation_id: stringify!($operation),
            summary: $summary,
            endpoint: || $endpoint,
        }),*]
    };
}

/// Every route; the router is built from it.
pub fn route_table() -> &'static [RouteInfo] {
    TABLE
}

#[rustfmt::skip]
static TABLE: &[RouteInfo] = routes! {
    "POST" "/api/usage/events" Service Handler record_usage_events "Records one event, an array, NDJSON or CloudEvents" => post(events::record);
    "GET" "/api/usage/{tenant}" Viewer Path get_tenant_usage "A tenant's metrics rows, newest first" => get(usage::rows);
    "GET" "/api/usage/{tenant}/today" Viewer Path get_today_usage "The open UTC day's metrics row of a tenant" => get(usage::today);
    "GET" "/api/usage/{tenant}/events" Viewer Path get_tenant_events "A tenant's raw events, newest first, by cursor" => get(usage::events);

    "GET" "/api/usage/{tenant}/events/{event_id}" Viewer Path get_tenant_event "One event with its cost explained: price, tier, each class's count x rate" => get(usage::event);

    "POST" "/api/quota/check" Service Handler check_quota "Whether amounts would fit now; changes nothing" => post(quota::check);
    "POST" "/api/quota/enforce" Service Handler enforce_quota "Takes amounts for 60 seconds, closed by the next recorded event" => post(quota::enforce);
    "POST" "/api/quota/reserve" Service Handler reserve_quota "Takes amounts of several types, all or nothing" => post(reservations::reserve);
    "POST" "/api/quota/reservations/{id}/settle" Service Handler settle_reservation "Records what really happened and gives back the rest" => post(reservations::settle);
    "DELETE" "/api/quota/reservations/{id}" Service Handler release_reservation "Gives all of a reservation back" => delete(reservations::release);
    "GET" "/api/quota/{tenant}" Viewer Path get_quota_status "A tenant's plan, limits, use and what is left" => get(quota::status);
    "GET" "/api/quota/{tenant}/explain" Viewer Path explain_denial "Why a request was denied, which limit, and what had used it" => get(quota::explain);

    "POST" "/api/audit/events" Service Handler record_audit_events "Writes one audit event or an array" => post(audit::record);
    "GET" "/api/audit/events" Viewer Handler get_audit_events "Audit events by any field, newest first, by cursor" => get(audit::list);
    "GET" "/api/audit/report" Viewer Handler generate_audit_report "A tenant's audit events over a range, counted" => get(audit::report);
    "POST" "/api/audit/events/{id}/resolve" Support Handler resolve_audit_event "Marks an audit event as resolved, once" => post(audit::resolve);

    "GET" "/api/audit/checkpoint" Viewer Nobody get_audit_checkpoint "A signed note over the whole audit log, as text" => get(audit_proofs::checkpoint);
    "GET" "/api/audit/proof/inclusion" Viewer Handler get_audit_inclusion_proof "Proves that an audit event is in the log" => get(audit_proofs::inclusion);
    "GET" "/api/audit/proof/consistency" Viewer Nobody get_audit_consistency_proof "Proves that the audit log has only grown" => get(audit_proofs::consistency);
    "POST" "/api/audit/verify" Admin All verify_audit "Hashes the whole audit log anew, and compares it with a kept checkpoint" => post(audit_proofs::verify);
    "GET" "/api/audit/export" Admin All export_audit "The whole audit log for an auditor, as JSON Lines" => get(audit_proofs::export);

    "GET" "/api/admin/usage" Admin All admin_usage "Usage, cost and quotas over all tenants, or of one" => get(admin_usage::show);
    "GET" "/api/admin/metrics/aggregate" Admin All aggregation_health "Whether usage flows in and is aggregated" => get(metrics_aggregate::health);
    "POST" "/api/admin/metrics/aggregate" CronSecret Nobody run_aggregation "The cron job's door: aggregates, then cleans up" => post(metrics_aggregate::run);
    "GET" "/api/admin/tenants" Support Handler list_tenants "Tenants in order of their ids, by cursor" => get(admin_tenants::list);
    "GET" "/api/admin/tenants/{tenant}" Support Path get_tenant "One tenant" => get(admin_tenants::show);
    "PUT" "/api/admin/tenants/{tenant}" Admin Path put_tenant "Registers or changes a tenant" => put(admin_tenants::change);
    "DELETE" "/api/admin/tenants/{tenant}" Admin Path delete_tenant "Leaves a tombstone of a tenant" => delete(admin_tenants::remove);
    "GET" "/api/admin/tenants/{tenant}/export" Admin Path export_tenant "Everything held of a tenant, as JSON Lines" => get(export::tenant);
    "PUT" "/api/admin/tenants/{tenant}/quotas/{type}" Support Path set_custom_quota "Sets a tenant's own limit" => put(admin_tenants::set_override);
    "DELETE" "/api/admin/tenants/{tenant}/quotas/{type}" Support Path remove_custom_quota "Removes a tenant's own limit" => delete(admin_tenants::remove_override);
    "GET" "/api/admin/tenants/{tenant}/prices" Support Path get_tenant_prices "A tenant's own prices and markup over time" => get(tenant_prices::show);
    "PUT" "/api/admin/tenants/{tenant}/prices" Admin Path set_tenant_prices "Sets a tenant's own prices and markup from an instant on" => put(tenant_prices::set);
    "DELETE" "/api/admin/tenants/{tenant}/prices" Admin Path remove_tenant_prices "Lets list prices hold for a tenant from an instant on" => delete(tenant_prices::remove);
    "GET" "/api/admin/plans" Admin All list_plans "The plans in force" => get(admin_plans::list);
    "PUT" "/api/admin/plans/{plan}" Admin All put_plan "Makes a plan or replaces its limits; ?dry_run=true only shows the effect" => put(admin_plans::change);
    "DELETE" "/api/admin/plans/{plan}" Admin All remove_plan "Removes a plan that no tenant is on" => delete(admin_plans::remove);
    "GET" "/api/admin/prices" Admin All list_prices "The prices in force by cursor; ?model= shows what a name is priced by" => get(admin_prices::list);
    "PUT" "/api/admin/prices" Admin All put_prices "Puts a price file in force, ours or another catalogue's; ?dry_run=true only shows what differs" => put(admin_prices::change);
    "GET" "/api/admin/prices/check" Admin All check_prices "Models of the last 30 days without a price, and prices that nobody looked at for long" => get(admin_prices::check);
    "POST" "/api/admin/prices/reprice" Admin All reprice_events "Prices the kept events of a range again after a correction, with the difference by tenant and model" => post(admin_prices::reprice);
    "GET" "/api/admin/keys" Admin All list_keys "The keys without their secrets, by cursor" => get(keys::list);
    "POST" "/api/admin/keys" Admin All create_key "Makes a key; its secret is in the answer, this once" => post(keys::create);
    "POST" "/api/admin/keys/{key_id}/rotate" Admin All rotate_key "Puts a new key in a key's place; the old one works for an overlap" => post(keys::rotate);
    "DELETE" "/api/admin/keys/{key_id}" Admin All revoke_key "Ends a key at once" => delete(keys::revoke);
    "GET" "/api/admin/alerts" Support Handler list_alerts "Thresholds of limits that were crossed, newest first, by cursor" => get(alerts::list);
    "GET" "/api/admin/jobs" Admin All list_jobs "Each job's last run, result and next run, and the alarms" => get(jobs::list);
    "POST" "/api/admin/jobs" Admin All run_job "Runs a job now, or confirms the clock" => post(jobs::run);
    "GET" "/api/admin/backups" Admin All list_backups "The backups that were made, newest first" => get(backups::list);
    "POST" "/api/admin/backups" Admin All make_backup "Makes a verified backup while writers go on" => post(backups::make);
    "GET" "/api/admin/backups/{name}" Admin All get_backup "A backup's file" => get(backups::download);
    "POST" "/api/admin/erase" Admin All erase "Erases what names an actor, a session or a deleted tenant, and its bytes from the file" => post(erase::run);
    "GET" "/api/admin/status" Admin All status "The server on one screen" => get(status::show);
    "POST" "/api/admin/verify" Admin All verify "Recomputes what can be recomputed and reports every difference" => post(jobs::verify);

    "GET" "/api/dev/clock" Admin All get_dev_clock "The time of a development server (only under serve --dev)" => get(dev_clock::show);
    "POST" "/api/dev/clock" Admin All move_dev_clock "Moves the clock of a development server forward (only under serve --dev)" => post(dev_clock::change);

    "POST" "/api/widget/session" Service Handler open_chat_session "Opens a session of the chat widget for a visitor" => post(widget::session);
    "POST" "/api/widget/chat" Open Nobody chat "Answers a message of a session; ?stream=true as server-sent events" => post(widget::chat).options(widget::preflight);
    "POST" "/v1/chat/completions" Service Handler chat_completions "Forwards a chat completion to its model's upstream, metered; streams as it comes" => openai::door(Endpoint::ChatCompletions);
    "POST" "/v1/responses" Service Handler responses "Forwards a call of the responses API, metered; streams as it comes" => openai::door(Endpoint::Responses);
    "POST" "/v1/embeddings" Service Handler embeddings "Forwards embeddings, metered" => openai::door(Endpoint::Embeddings);
    "GET" "/v1/models" Viewer Nobody list_models "The configured models, as OpenAI lists them" => get(openai::models);

    "GET" "/metrics" Viewer All metrics "Prometheus text; open when metrics.open is true" => get(metrics::show);
    "GET" "/healthz" Open Nobody health "Whether the process answers" => get(health::alive);
    "GET" "/readyz" Open Nobody readiness "Whether writes are possible" => get(health::ready);
};

/// The fixed paths that would hide a route from a tenant of their last segment's name: `GET /api/usage/events` is the usage
/// of a tenant that is called `events`.
pub(super) fn fixed_beside(route: &RouteInfo) -> impl Iterator<Item = &'static str> {
    let parent = route.path.strip_suffix("/{tenant}");
    let is_beside = move |other: &&RouteInfo| {
        let last = parent.and_then(|parent| other.path.strip_prefix(parent)?.strip_prefix('/'));
        last.is_some_and(|last| !last.contains(['/', '{']))
    };
    let method = route.method;
    let taken = move |path: &str| route_table().iter().any(|other| (other.method, other.path) == (method, path));
    let fixed: std::collections::BTreeSet<&str> =
        route_table().iter().filter(is_beside).map(|other| other.path).collect();
    fixed.into_iter().filter(move |path| !taken(path))
}

/// Runs what reads or waits for the disk on a thread made for it, so that no other request waits.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn what_works_without_a_key_is_listed_here_and_nowhere_else() {
        let open = route_table().iter().filter(|route| route.role.of_key().is_none());
        let open: Vec<_> = open.map(|route| (route.method, route.path, route.role)).collect();
        assert_eq!(
            open,
            [
                ("POST", "/api/admin/metrics/aggregate", Role::CronSecret),
                ("POST", "/api/widget/chat", Role::Open),
                ("GET", "/healthz", Role::Open),
                ("GET", "/readyz", Role::Open),
            ]
        );
        let admin = route_table().iter().filter(|route| route.path.starts_with("/api/admin/"));
        assert!(admin.into_iter().all(|route| !matches!(route.role, Role::Open | Role::Viewer | Role::Service)));
    }

    #[test]
    fn each_route_says_where_its_tenant_is_checked() {
        for route in route_table() {
            let in_path = route.path.contains("{tenant}");
            assert_eq!(in_path, route.tenants == TenantCheck::Path, "{} {}", route.method, route.path);
            let keyless = route.role.of_key().is_none();
            assert!(!keyless || route.tenants == TenantCheck::Nobody, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn each_route_and_each_operation_stands_once() {
        let mut seen = HashSet::new();
        for route in route_table() {
            assert!(seen.insert((route.method, route.path)), "{} {}", route.method, route.path);
            assert!(seen.insert(("operation", route.operation_id)), "{}", route.operation_id);
            assert!(!route.summary.is_empty());
        }
    }

    #[test]
    fn each_endpoint_serves_the_method_it_is_listed_with() {
        for route in route_table() {
            let served = format!("{:?}", route.endpoint());
            let field =
                |name: &str| served.split(&format!(" {name}: ")).nth(1).is_some_and(|rest| !rest.starts_with("None"));
            let listed = route.method.to_ascii_lowercase();
            for method in ["get", "post", "put", "delete"] {
                assert_eq!(field(method), method == listed, "{} {}: {served}", route.method, route.path);
            }
        }
    }
}
