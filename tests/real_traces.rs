//! Real traffic goes in, and every figure that comes out equals what was counted apart from metergate, to the unit.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod support;

use std::collections::BTreeMap;
use std::process::Stdio;

use serde_json::Value;

use support::command::{cli_ok, command};
use support::traces::{AZURE, SERVEGEN, data_file, expected_by_client, expected_of_azure, sum};
use support::{
    NEVER_SAME, Server, Totals, count, midnight_days_ago, period_rows, rfc3339, usage_rows, wait_for, without,
};

const AZURE_TENANT: &str = "azure-conv";
const PERIODS: [&str; 3] = ["hourly", "daily", "monthly"];

#[test]
fn the_azure_trace_is_counted_to_the_unit_by_a_running_server() {
    let Some(file) = data_file(AZURE) else { return };
    let Some(expected) = expected_of_azure() else { return };
    let import = Import::new(file.to_str().unwrap(), "azure-llm");
    let tenants = BTreeMap::from([(AZURE_TENANT.to_owned(), expected)]);
    lives_through_everything(&import, &tenants);
}

#[test]
fn the_servegen_stream_is_counted_to_the_unit_for_each_of_its_tenants_by_a_running_server() {
    let Some(file) = data_file(SERVEGEN) else { return };
    let Some(tenants) = expected_by_client() else { return };
    lives_through_everything(&Import::new(file.to_str().unwrap(), "servegen"), &tenants);
}

#[test]
fn both_traces_are_counted_to_the_unit_in_a_stopped_data_folder() {
    let Some(azure) = data_file(AZURE) else { return };
    let Some(servegen) = data_file(SERVEGEN) else { return };
    let Some(expected) = expected_of_azure() else { return };
    let Some(mut tenants) = expected_by_client() else { return };
    let mut server = Server::stopped();
    let folder = server.data_dir();
    let at_folder = ["--data-dir", folder.to_str().unwrap()];
    let imports =
        [Import::new(azure.to_str().unwrap(), "azure-llm"), Import::new(servegen.to_str().unwrap(), "servegen")];
    let rows = [expected.requests, sum(&tenants).requests];
    for (import, rows) in imports.iter().zip(rows) {
        assert_eq!(import.run(at_folder), (rows, 0));
    }
    for (tenant, expected) in tenants.iter().take(4).chain([(&AZURE_TENANT.to_owned(), &expected)]) {
        assert_eq!(usage_by_command(tenant, at_folder), *expected, "{tenant}");
    }
    cli_ok(&["aggregate-usage-metrics", at_folder[0], at_folder[1]]);
    assert_eq!(usage_by_command(AZURE_TENANT, at_folder), expected, "after aggregation");
    for (import, rows) in imports.iter().zip(rows) {
        assert_eq!(import.run(at_folder), (0, rows), "a second import adds nothing");
    }

    tenants.insert(AZURE_TENANT.to_owned(), expected);
    server.start_again();
    every_figure_is_right(&server, &tenants, "served afterwards");
}

#[test]
fn an_import_that_a_kill_broke_is_finished_exactly_by_the_next_one() {
    let Some(file) = data_file(SERVEGEN) else { return };
    let Some(tenants) = expected_by_client() else { return };
    let import = Import::new(file.to_str().unwrap(), "servegen");
    let expected = sum(&tenants);
    let mut server = Server::start();

    let url = server.url.clone();
    let mut broken = command(&import.arguments(["--server", &url]));
    let mut broken = broken.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let seen = wait_for("the import begins", 60, || Some(overview(&server).requests).filter(|&requests| requests > 0));
    server.kill_9();
    assert!(seen < expected.requests, "all {seen} were there before the kill: it broke nothing");
    // It either gives up, or goes on trying a server that does not come back on its port.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let status = loop {
        match broken.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if std::time::Instant::now() > deadline => break None,
            None => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    };
    match status {
        Some(status) => assert!(!status.success(), "an import that lost its server says so"),
        None => {
            broken.kill().unwrap();
            broken.wait().unwrap();
        }
    }

    server.start_again();
    let kept = overview(&server).requests;
    assert!(kept >= seen, "{seen} had been seen before the kill, {kept} after it");
    let (added, known) = import.run(["--server", &server.url]);
    assert_eq!((added + known, known), (expected.requests, kept));
    every_figure_is_right(&server, &tenants, "after the kill");
}

/// Import, read, import again, aggregate, read, restart, read, aggregate again, read.
fn lives_through_everything(import: &Import, tenants: &BTreeMap<String, Totals>) {
    let expected = sum(tenants);
    let mut server = Server::start();
    let url = server.url.clone();
    assert_eq!(import.run(["--server", &url]), (expected.requests, 0));
    every_figure_is_right(&server, tenants, "as imported");
    for (tenant, expected) in tenants.iter().take(20) {
        assert_eq!(usage_by_command(tenant, ["--server", &url]), *expected, "{tenant} by command");
    }
    assert_eq!(import.run(["--server", &url]), (0, expected.requests), "a second import adds nothing");
    every_figure_is_right(&server, tenants, "imported twice");

    server.aggregate();
    every_figure_is_right(&server, tenants, "aggregated");
    let aggregated = all_rows(&server, tenants);
    cli_ok(&["aggregate-usage-metrics", "--server", &url]);
    assert_eq!(all_rows(&server, tenants), aggregated, "aggregated twice");

    server.restart();
    every_figure_is_right(&server, tenants, "restarted");
    assert_eq!(all_rows(&server, tenants), aggregated, "restarted");

    let (from, to) = (rfc3339(midnight_days_ago(7)), rfc3339(midnight_days_ago(1)));
    cli_ok(&["aggregate-usage-metrics", "--from", &from, "--to", &to, "--server", &server.url]);
    assert_eq!(all_rows(&server, tenants), aggregated, "an old range aggregated again");
    every_figure_is_right(&server, tenants, "an old range aggregated again");
}

/// An import of one file that starts at one instant, so that it can be repeated.
struct Import {
    arguments: Vec<String>,
}

impl Import {
    fn new(file: &str, format: &str) -> Self {
        // A quarter past nine, so that the hour of the Azure trace lies in two, and the day of ServeGen in two days.
        let start_at = rfc3339(midnight_days_ago(5) + chrono::Duration::minutes(9 * 60 + 15));
        let mut arguments = vec!["import", file, "--format", format, "--start-at", &start_at, "--json"];
        if format == "azure-llm" {
            arguments.extend(["--tenant", AZURE_TENANT]);
        }
        Self { arguments: arguments.into_iter().map(str::to_owned).collect() }
    }

    fn arguments<'a>(&'a self, target: [&'a str; 2]) -> Vec<&'a str> {
        self.arguments.iter().map(String::as_str).chain(target).collect()
    }

    /// Runs it to its end; gives how many lines were (recorded now, known before). None may be rejected.
    #[track_caller]
    fn run(&self, target: [&str; 2]) -> (u64, u64) {
        let stdout = cli_ok(&self.arguments(target));
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}"));
        let total = &report["total"];
        assert_eq!(count(total, "rejected"), 0, "{report}");
        (count(total, "accepted"), count(total, "duplicates"))
    }
}

#[track_caller]
fn every_figure_is_right(server: &Server, tenants: &BTreeMap<String, Totals>, when: &str) {
    let expected = sum(tenants);
    let shown = overview(server);
    assert_eq!((shown.requests, shown.tokens), (expected.requests, expected.tokens()), "{when}, in all");
    assert_eq!(shown.tenants, tenants.len() as u64, "{when}, tenants");
    assert_eq!(shown.top, most_tokens_first(tenants), "{when}, top consumers");
    for (tenant, expected) in tenants {
        let rows = period_rows(server, tenant, "daily");
        assert_eq!(Totals::of_rows(&rows), *expected, "{when}, {tenant}, admin");
        let body = server.get(&format!("/api/usage/{tenant}?period=daily")).expect(200);
        assert_eq!(Totals::of_rows(&usage_rows(&body)), *expected, "{when}, {tenant}, usage");
    }
    // Hours and months of the busiest and of the first: they fold from the same events.
    for tenant in shown.top.iter().map(|(tenant, _)| tenant).take(2).chain(tenants.keys().next()) {
        for period in PERIODS {
            assert_eq!(
                Totals::of_rows(&period_rows(server, tenant, period)),
                tenants[tenant],
                "{when}, {tenant}, {period}"
            );
        }
    }
}

struct Overview {
    tenants: u64,
    requests: u64,
    tokens: u64,
    top: Vec<(String, u64)>,
}

/// All tenants over the last 30 days.
#[track_caller]
fn overview(server: &Server) -> Overview {
    let body = server.get("/api/admin/usage?limit=5").expect(200);
    let summary = &body["summary"];
    let top = body["topConsumers"].as_array().expect("topConsumers").iter();
    Overview {
        tenants: count(summary, "total_tenants"),
        requests: count(summary, "total_api_calls"),
        tokens: count(summary, "total_tokens"),
        top: top.map(|row| (row["tenant_id"].as_str().unwrap().to_owned(), count(row, "total_tokens_used"))).collect(),
    }
}

fn most_tokens_first(tenants: &BTreeMap<String, Totals>) -> Vec<(String, u64)> {
    let mut order: Vec<_> = tenants.iter().map(|(tenant, totals)| (tenant.clone(), totals.tokens())).collect();
    order.sort_by_key(|(_, tokens)| std::cmp::Reverse(*tokens));
    order.truncate(5);
    order
}

#[track_caller]
fn usage_by_command(tenant: &str, target: [&str; 2]) -> Totals {
    let stdout = cli_ok(&["usage", tenant, "--json", target[0], target[1]]);
    let body: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout}"));
    Totals::of_rows(&usage_rows(&body))
}

/// Every row of every tenant and period, but for the time of its writing.
fn all_rows(server: &Server, tenants: &BTreeMap<String, Totals>) -> Vec<String> {
    let rows = tenants.keys().flat_map(|tenant| PERIODS.map(|period| period_rows(server, tenant, period)));
    rows.flat_map(|rows| without(NEVER_SAME, &rows)).collect()
}
