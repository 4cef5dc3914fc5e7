//! PostgreSQL with the documented tables and functions; synchronous_commit is on, as it comes.

use std::io::Write;
use std::time::Instant;

use postgres::{Client, NoTls};
use serde_json::{Value, json};

use crate::arguments::{Arguments, percentiles};
use crate::happening::Happening;

const COLUMNS: &str = "(tenant_id, event_type, event_timestamp, api_method, api_endpoint, api_status_code, \
                       api_response_time_ms, tokens_consumed)";

fn connect(arguments: &Arguments) -> Client {
    Client::connect(arguments.text("url"), NoTls).expect("PostgreSQL answers")
}

/// The tables, empty.
fn begin(arguments: &Arguments) -> Client {
    let mut client = connect(arguments);
    client.batch_execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").expect("an empty schema");
    client.batch_execute(include_str!("documented.sql")).expect("the documented tables");
    client
}

fn copy(client: &mut Client, batch: &[Happening]) {
    let mut rows = String::with_capacity(batch.len() * 120);
    for event in batch {
        let Happening { tenant_no, micros, event_type, endpoint, status, response_ms, input, output, .. } = event;
        let time = micros / 1_000_000;
        let (days, second, fraction) = (time / 86_400, time % 86_400, micros % 1_000_000);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        rows.push_str(&format!(
            "tenant-{tenant_no}\t{event_type}\t{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{fraction:06}+00\t\
             POST\t{endpoint}\t{status}\t{response_ms}\t{}\n",
            input + output
        ));
    }
    let mut writer = client.copy_in(&format!("COPY tenant_usage_realtime {COLUMNS} FROM STDIN")).expect("a COPY");
    writer.write_all(rows.as_bytes()).expect("rows");
    writer.finish().expect("a commit");
}

/// Days since 1970 as a date.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn check(client: &mut Client, happenings: &[Happening]) -> f64 {
    let totals = client
        .query_one("SELECT count(*), sum(tokens_consumed)::bigint, pg_total_relation_size('tenant_usage_realtime') FROM tenant_usage_realtime", &[])
        .expect("a count");
    assert_eq!(totals.get::<_, i64>(0) as usize, happenings.len());
    assert_eq!(totals.get::<_, i64>(1) as u64, happenings.iter().map(|event| event.input + event.output).sum::<u64>());
    totals.get::<_, i64>(2) as f64 / happenings.len() as f64
}

/// COPY, so many events a commit.
pub fn bulk(arguments: &Arguments) -> Value {
    let happenings = crate::happenings(arguments);
    let mut client = begin(arguments);
    let started = Instant::now();
    for batch in happenings.chunks(arguments.number("batch")) {
        copy(&mut client, batch);
    }
    let rate = happenings.len() as f64 / started.elapsed().as_secs_f64();
    json!({ "rate": rate, "bytes_per_event": check(&mut client, &happenings) })
}

/// One INSERT a commit, from so many clients.
pub fn singles(arguments: &Arguments) -> Value {
    let happenings = crate::happenings(arguments);
    let mut client = begin(arguments);
    let clients: usize = arguments.number("clients");
    let started = Instant::now();
    let insert = format!(
        "INSERT INTO tenant_usage_realtime {COLUMNS} VALUES ($1, $2, to_timestamp($3), 'POST', $4, $5, $6, $7)"
    );
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let parts = happenings.chunks(happenings.len().div_ceil(clients));
        let threads: Vec<_> = parts
            .map(|part| {
                let insert = &insert;
                scope.spawn(move || {
                    let mut client = connect(arguments);
                    let statement = client.prepare(insert).expect("a statement");
                    let record = |event: &Happening| {
                        let begun = Instant::now();
                        let (seconds, tokens) = (event.micros as f64 / 1e6, (event.input + event.output) as i64);
                        let tenant = format!("tenant-{}", event.tenant_no);
                        let (status, response) = (i32::from(event.status), event.response_ms as i32);
                        client
                            .execute(
                                &statement,
                                &[&tenant, &event.event_type, &seconds, &event.endpoint, &status, &response, &tokens],
                            )
                            .expect("a row");
                        begun.elapsed().as_nanos() as u64
                    };
                    part.iter().map(record).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| times.extend(thread.join().expect("a client")));
    });
    let rate = happenings.len() as f64 / started.elapsed().as_secs_f64();
    check(&mut client, &happenings);
    let [p50, p99, ..] = percentiles(&mut times);
    json!({ "rate": rate, "p50_ms": p50, "p99_ms": p99 })
}

/// `name=take_quota` or `name=check_tenant_quota`, from so many clients.
pub fn function(arguments: &Arguments) -> Value {
    let mut client = begin(arguments);
    let tenants: u32 = arguments.number("tenants");
    let fill = "INSERT INTO quota_today SELECT 'tenant-' || n, 0, 1000000000000 FROM generate_series(0, $1::int - 1) n";
    client.execute(fill, &[&(tenants as i32)]).expect("tenants");
    let (clients, calls): (u32, u32) = (arguments.number("clients"), arguments.number("calls"));
    let call = format!("SELECT {}($1, 1)", arguments.text("name"));
    let started = Instant::now();
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|no| {
                let call = &call;
                scope.spawn(move || {
                    let mut client = connect(arguments);
                    let statement = client.prepare(call).expect("a statement");
                    let one = |round: u32| {
                        let begun = Instant::now();
                        let tenant = format!("tenant-{}", (round * clients + no) * 7_919 % tenants);
                        let granted: bool = client.query_one(&statement, &[&tenant]).expect("an answer").get(0);
                        assert!(granted);
                        begun.elapsed().as_nanos() as u64
                    };
                    (0..calls / clients).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| times.extend(thread.join().expect("a client")));
    });
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    let [p50, p99, ..] = percentiles(&mut times);
    json!({ "rate": rate, "p50_ms": p50, "p99_ms": p99 })
}

const DAILY: &str = "SELECT tenant_id, date_trunc('day', event_timestamp, 'UTC') AS day, count(*) AS calls, \
    count(*) FILTER (WHERE api_status_code BETWEEN 200 AND 299) AS ok, \
    count(*) FILTER (WHERE api_status_code >= 400 AND api_status_code <> 429) AS failed, \
    count(*) FILTER (WHERE api_status_code = 429) AS limited, avg(api_response_time_ms)::float8 AS average, \
    percentile_cont(0.95) WITHIN GROUP (ORDER BY api_response_time_ms) AS p95, \
    percentile_cont(0.99) WITHIN GROUP (ORDER BY api_response_time_ms) AS p99, \
    count(*) FILTER (WHERE event_type = 'chat_message') AS chats, sum(tokens_consumed)::bigint AS tokens \
    FROM tenant_usage_realtime";

/// One tenant's days out of its events, as the documented system computes them.
pub fn usage(arguments: &Arguments) -> Value {
    let happenings = crate::happenings(arguments);
    let mut client = begin(arguments);
    happenings.chunks(100_000).for_each(|batch| copy(&mut client, batch));
    client.batch_execute("ANALYZE").expect("statistics");
    let statement = client.prepare(&format!("{DAILY} WHERE tenant_id = $1 GROUP BY 1, 2")).expect("a statement");
    let tenants: u32 = arguments.number("tenants");
    let one = |round: u32| {
        let begun = Instant::now();
        client.query(&statement, &[&format!("tenant-{}", round * 7_919 % tenants)]).expect("rows");
        begun.elapsed().as_nanos() as u64
    };
    let mut times: Vec<u64> = (0..500).map(one).collect();
    let [p50, p99, ..] = percentiles(&mut times);
    json!({ "p50_ms": p50, "p99_ms": p99 })
}

/// INSERT..SELECT of every tenant's days, then again over what is there.
pub fn aggregate(arguments: &Arguments) -> Value {
    let happenings = crate::happenings(arguments);
    let mut client = begin(arguments);
    happenings.chunks(100_000).for_each(|batch| copy(&mut client, batch));
    let aggregate = format!(
        "INSERT INTO tenant_usage_metrics (tenant_id, period_start, period_end, period_type, api_calls_total, \
         api_calls_successful, api_calls_failed, api_calls_rate_limited, api_latency_avg_ms, api_latency_p95_ms, \
         api_latency_p99_ms, chat_messages_sent, total_tokens_used, error_count) \
         SELECT tenant_id, day, day + interval '1 day', 'daily', calls, ok, failed, limited, average, p95, p99, chats, \
         tokens, failed FROM ({DAILY} GROUP BY 1, 2) days \
         ON CONFLICT (tenant_id, period_start, period_type) DO UPDATE SET \
         (api_calls_total, total_tokens_used) = (EXCLUDED.api_calls_total, EXCLUDED.total_tokens_used)"
    );
    let mut timed = || {
        let started = Instant::now();
        client.batch_execute(&aggregate).expect("rows");
        happenings.len() as f64 / started.elapsed().as_secs_f64()
    };
    let (first, again) = (timed(), timed());
    json!({ "rate": first, "again_rate": again })
}
