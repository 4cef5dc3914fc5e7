//! Usage metering, quota enforcement and an audit log in one binary with its storage embedded.
//!
//! metergate records what tenants of an LLM or RAG platform use, decides before the work is done whether they may, and
//! knows at every moment what it adds up to. It is a library ([`Metergate`]), an HTTP server ([`http`]) and a command
//! line ([`cli`]) over one [redb](https://docs.rs/redb) file. What users need is in `README.md` and
//! `data/reference.md`; this page is the architecture, for who changes the code. It says only what the code does today.
//!
//! # Quick start
//!
//! ```
//! use metergate::Metergate;
//! use metergate::domain::event::UsageEvent;
//! use metergate::domain::quota::{Item, QuotaType};
//! use metergate::domain::tenant::TenantId;
//! use metergate::enforcer::ReserveRequest;
//! use metergate::tracker::Success;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! let metergate = Metergate::open(folder.path())?;
//! let (tracker, enforcer) = (metergate.usage_tracker(), metergate.quota_enforcer());
//! let acme: TenantId = "acme".parse()?;
//!
//! // Check first, record later: the hold is closed by the next recorded event.
//! let answer = enforcer.enforce_quota(&acme, QuotaType::Tokens, 2_000)?;
//! assert!(answer.allowed);
//! let call = tracker.track_usage(acme.clone(), "api_call", None);
//! let receipt = call.record_success(Success { tokens_used: Some(1_540), ..Success::default() });
//! receipt.ok_or("the queue is full")?.wait()?; // now it is on disk
//!
//! // Or keep a handle: reserve, work, settle.
//! let granted = enforcer.reserve_blocking(ReserveRequest {
//!     tenant_id: acme.clone(),
//!     items: vec![Item { quota_type: QuotaType::Tokens, amount: 2_000 }],
//!     ttl_seconds: None,
//!     reservation_id: Some("job-7".to_owned()),
//!     request_id: None,
//! })?;
//! assert!(granted.decision.allowed);
//! let mut event = UsageEvent::new(acme.clone(), "api_call");
//! event.tokens_consumed = Some(1_850);
//! let settled = enforcer.settle_blocking(Some(&acme), "job-7", vec![event])?;
//! assert!(!settled.overage);
//!
//! assert_eq!(tracker.get_today_usage(&acme)?.total_tokens_used, 3_390);
//! assert!(enforcer.check_tenant_quota(&acme, 6_610)?); // the trial plan has 10,000 a day
//! assert!(!enforcer.check_tenant_quota(&acme, 6_611)?);
//! metergate.close();
//! # Ok(())
//! # }
//! ```
//!
//! # The floors
//!
//! A module imports only from floors below its own; those on one floor do not know each other. `tests/floors.rs` reads the
//! source and fails otherwise.
//!
//! | floor | module | what |
//! |---|---|---|
//! | 9 | `main` | the process: its allocator, and [`cli::main`] |
//! | 9 | [`cli`] | words typed by a person become requests; answers become tables or JSON |
//! | 8 | [`app`] | starts a server's parts in order, stops them in reverse |
//! | 7 | [`http`] | JSON, status codes, keys; the only one that knows axum |
//! | 6 | [`engine`] | [`Metergate`]: opens the parts, hands out the utilities, folds in the background, closes |
//! | 6 | [`gateway`] | the metered door: forwards calls to upstreams, bounded, reserved, settled; the chat widget |
//! | 6 | [`jobs`] | the schedule and the last runs; the only one that knows the scheduler |
//! | 5 | [`tracker`] | records usage, reads it back, aggregates, cleans up, verifies; explains costs, prices a past range again |
//! | 5 | [`enforcer`] | check, enforce, reserve, settle, release; explains denials |
//! | 5 | [`audit`] | writes the audit log, finds, resolves and reports what is in it, cleans it up |
//! | 5 | [`tenants`] | tenants, plans and prices, as administered; what a change of them would mean |
//! | 5 | [`backup`] | makes, lists and finds backups |
//! | 5 | [`erasure`] | erases what names an actor, a session or a tenant, and its bytes |
//! | 5 | [`keys`] | makes, rotates and revokes keys, and knows them at the door |
//! | 4 | [`writer`] | one thread, one transaction, one fsync, many receipts; files the journal; rebuilds memory at start |
//! | 3 | [`counters`] | every tenant's quotas in memory, decided and taken in one step; what it pays of its own |
//! | 3 | [`live`] | what memory knows beyond the stored rows: the moving hours, the unfiled ids, the fingerprints of the filed |
//! | 3 | [`store`] | the redb file and every format in it; the only one that knows redb and bincode |
//! | 2 | [`rules`] | pure decisions: windows, charges, roll-ups, retention, plans, prices, extraction, administration, keys, reconciliation |
//! | 2 | [`clock`] | the server's time, which never runs backwards; one that is moved, for tests and `serve --dev` |
//! | 2 | [`ids`] | UUIDs and random bytes |
//! | 2 | [`config`] | flags, environment and `metergate.toml`; the only one that reads the environment |
//! | 1 | [`domain`] | the words: tenant, event, metrics, quota, hold, audit, key, actor, money, price, usage, time |
//!
//! # The flow
//!
//! ```text
//!  caller -> http -> enforcer -> counters            decided in memory, under the tenant's lock
//!                 |      `------> writer ------.     a grant is journaled before it is answered
//!                 `-> tracker --> writer ------+==>  one transaction, one fsync ==> journal
//!                 `-> tenants, keys -> writer -'           |                           |
//!                                                          v                           v  filer, in the background
//!                          receipts <-- live, counters <-- commit                 segments of the UTC day
//!                                                                                      |
//!  housekeeping, job or command -> aggregate_usage_metrics ----------------> hourly, daily, monthly rows
//!  job or command -> cleanup_old_realtime_events --------------------------> drops whole days below the cut
//! ```
//!
//! # Invariants
//!
//! Each names where it is kept and the test that would fail.
//!
//! 1. *Success means on disk.* A receipt is fulfilled after the transaction's commit (`writer::thread`, `write` before
//!    `answer`). `tests/library/exact_usage.rs`: `a_crash_loses_nothing_that_was_acknowledged_and_repeats_count_once`.
//! 2. *At every grant, used + held + granted <= limit.* [`counters::TenantState::take`] asks, takes and holds in one call
//!    under [`counters::TenantSlot::lock`]. `src/counters`: `the_state_agrees_with_a_model_that_recounts_everything`,
//!    `in_every_order_of_threads_no_limit_is_passed_and_nothing_is_counted_twice` (a build of its own, in `tests/run.sh`);
//!    `tests/threads.rs`: `sixty_four_threads_never_pass_a_limit_or_a_ceiling`; `tests/quota_gate.rs`:
//!    `the_busiest_minute_of_azure_never_takes_a_token_more_than_the_limit`.
//! 3. *In no 60 seconds is more than a minute's limit granted.* `counters::minute`.
//!    `in_no_sixty_seconds_is_more_than_the_limit_granted`.
//! 4. *A denied request burns nothing*, of any of its types. [`counters::TenantState::take`].
//!    `a_denied_request_burns_nothing_of_any_type`.
//! 5. *A grant is on disk before its answer, and survives a crash.* `enforcer::reserve` waits for the writer's receipt.
//!    `tests/quota_gate.rs`: `a_hold_survives_a_kill_and_lapses_by_itself`.
//! 6. *An id counts once*, while its event is kept: same content is a duplicate, other content a conflict. `Stage` in
//!    `writer::stage` looks into the commit itself, [`live`], and the segments; an id enters the fingerprints before it
//!    leaves its generation (`writer::filer`). `tests/retries.rs`: `the_same_ids_in_many_requests_at_once_count_once`,
//!    `a_retry_is_known_after_filing_and_after_every_kind_of_restart`.
//! 7. *Stored rows, filed layer and generations hold disjoint events*, so their sum is the exact usage.
//!    [`live::LiveState`]. `tests/library/exact_usage.rs`: `usage_is_exact_at_once_and_the_same_after_filing_folding_and_a_restart`.
//! 8. *Aggregating twice changes nothing*, and recomputing a range from its events gives the rows that folding gave.
//!    `tracker::aggregate_usage_metrics`. The same test; `tests/usage_days.rs`: `aggregating_again_writes_the_same_rows`.
//! 9. *A clean-up moves the cut by at most a day and never past what is not aggregated.* [`rules::retention::next_cut`].
//!    `a_clock_three_years_ahead_removes_one_day`; `tests/library/exact_usage.rs`:
//!    `retention_removes_a_bounded_span_keeps_the_rows_and_forgets_the_ids`.
//! 10. *The server's time never runs backwards, and no jump of the wall clock is believed at once.* [`clock`].
//!     `no_thread_sees_the_clock_run_backwards`, `jumps_of_the_wall_clock_are_never_believed_at_once`.
//! 11. *Changed bytes are found before anything is believed*: journal blocks, segment blocks and blocks of metrics rows
//!     carry checksums. `src/store`: `a_flipped_byte_in_a_block_is_found_before_anything_is_believed`,
//!     `a_flipped_bit_is_found`. Plain records (tenants, plans, saved counters, marks) carry a version byte only.
//! 12. *Money is an integer*, read from its text and summed exactly; an unknown cost is counted, never zero.
//!     [`domain::money`]. `tests/counting.rs`: `costs_are_added_exactly_and_an_unknown_one_is_never_zero`. *What an event
//!     cost stays*: its estimate is stored with it, with the number of a price row that never changes; the content digest
//!     of a retry leaves the estimate out. `tests/library/costs.rs`:
//!     `what_an_event_cost_stays_when_prices_change_and_is_explained_by_its_own_price`,
//!     `a_retry_is_a_retry_whatever_prices_say_by_then`; `tests/library/tenant_prices.rs`:
//!     `a_change_of_terms_or_prices_never_alters_what_an_event_cost_over_crash_and_restart`. *Sums by model add up to their row*, in whatever order parts are
//!     merged: at most 64 models stand apart, those first by name ([`domain::models`]).
//!     `rows_by_model_add_up_to_their_row_at_every_moment`.
//! 13. *What works without a key is listed*: health and the cron door. Every other route says the least role it asks for and
//!     where its tenant is checked, and *what is of a foreign tenant answers as what never was*. `http::routes`,
//!     `http::auth`. `what_works_without_a_key_is_listed_here_and_nowhere_else`; `tests/roles`: `every_route_has_a_rule`,
//!     `without_a_key_that_works_every_route_but_the_listed_is_401`,
//!     `every_role_may_what_the_table_says_and_a_foreign_tenant_does_not_exist`.
//!     Where a request comes from is the socket's word, unless the peer is a proxy that the settings name
//!     (`http::client_address`): `a_proxy_of_ours_is_believed_and_nobody_else`.
//! 14. *One process has a data folder.* redb's lock, as [`OpenError::InUse`]. `tests/bad_surroundings.rs`:
//!     `a_second_server_on_the_same_folder_is_refused_and_told_what_to_do`.
//! 15. *The house stands on its floors*, and nobody reads clock, randomness or environment elsewhere. `tests/floors.rs`:
//!     `the_house_stands_on_its_floors`.
//! 16. *A crossed threshold is recorded once* for its limit, percentage and window, over crashes, replays and restarts. Its
//!     record's id is derived from those (`rules::alerts::crossing_name`, keyed by the store's secret), and the audit log
//!     takes an id once. `tests/library/thresholds.rs`:
//!     `a_crossing_is_recorded_once_over_crashes_filings_and_restarts`.
//! 17. *No grant passes a ceiling of the platform*: used + held + granted <= ceiling over all tenants.
//!     [`counters::TenantState::take_under`], with the platform's lock taken after the tenant's. `src/counters`:
//!     `it_is_the_sum_of_its_tenants_and_no_grant_passes_a_ceiling`; `tests/library/platform.rs`:
//!     `sixty_four_threads_over_many_tenants_never_pass_the_ceiling`, `a_crash_and_a_restart_keep_what_was_used_and_held`.
//! 18. *An expiry is recorded once*, before any change that ends it. `rules::administration::apply_change`.
//!     `tests/library/expiry.rs`: `an_expiry_is_recorded_once_and_an_extension_revives`.
//! 19. *Every change of the audit log is found* beside a checkpoint kept outside; a note leaves only after its commit.
//!     `store::audit_tree`, `writer::checkpoints`. `src/store`: `the_tree_agrees_with_its_leaves_and_every_change_under_it_is_found`;
//!     `tests/audit_proofs.rs`: `a_log_that_was_rolled_back_or_written_anew_is_found_by_the_kept_checkpoint`.
//! 20. *An erasure is no tampering, and tampering is no erasure*: a record without its bytes is missed unless a record of the
//!     log, in the same transaction, says that it was erased; nobody but an erasure may write one. `store::audit_tree`,
//!     [`rules::erasure`]. `src/store/erase_tests.rs`:
//!     `erasing_pruning_and_crashing_raise_no_false_alarm_and_hide_nothing`.
//! 21. *What is erased is not in the file*, and what is counted stays. [`erasure`], `store::rewrite`. `tests/erasure.rs`:
//!     `what_is_erased_is_not_in_the_file_and_is_not_missed`, `an_erasure_that_a_kill_broke_off_is_finished_by_asking_again`.
//! 22. *A backup is believed only when it is what its manifest says*, each key and value; a table that a copy does not know
//!     fails it. `store::backup`. `a_backup_of_a_busy_server_is_one_state_and_is_restored_into_an_empty_folder_only`.
//! 23. *A store that failed is opened again without a restart, and memory is what is on its disk*, whichever way the open
//!     commit went: every repeat under the same ids is exact. `writer::recovery`. `tests/crash`:
//!     `the_kth_sync_fails_for_every_k_and_nothing_is_lost_or_counted_twice`,
//!     `a_full_disk_refuses_what_is_new_lets_go_on_what_needs_no_room_and_recovers_without_a_restart`.
//! 24. *Whatever part of what was not synced a crash keeps, the store opens with everything acknowledged and nothing by
//!     half*, also when it crashes again meanwhile. `tests/crash`:
//!     `a_crash_at_any_write_or_sync_loses_nothing_acknowledged_and_leaves_nothing_by_half`. `tests/mutations.sh` shows that
//!     these tests can fail.
//! 25. *What HTTP clients were told survives kill -9*: totals, holds and audit equal the clients' own lists. `tests/kills`:
//!     `r3_kills_under_load_lose_nothing_that_was_acknowledged_and_count_nothing_twice`.
//! 26. *Thirty days with crashes, failing disks and jumping clocks give what a list of everything adds up to*, and the same
//!     seed gives the same trace. `tests/simulation`.
//!
//! # Walkthroughs
//!
//! **Record usage.** `http::routes::events::record` reads drafts, one bad event never sinking its batch, and calls
//! [`tracker::UsageTracker::record`]. That validates, and `Shared::prepare` does on the caller's thread what can be done
//! there: the tenant, the digest of the caller's fields, the keyed hash of the id, the look-up among filed ids, and the
//! compact form in which the event travels from here on. The
//! writer's thread takes every command that waits (up to 10,000 events or 4,096 commands), `Stage` decides what each event
//! becomes, numbers it, and registers unknown tenants with their audit record. `Transaction::put_commit` writes one journal
//! block, `commit` syncs once. Then the events enter [`live`] and, by `writer::apply::apply`, the counters; then everybody
//! is answered. Memory changes only after the commit, so a commit that failed changed nothing there.
//!
//! **Price an event.** `Shared::prepare` estimates, on the caller's thread, what an event costs that names a `model` and no
//! `cost_usd`: `PriceTable` (`writer::prices`) remembers what a name means, `rules::pricing` takes the counts and
//! multiplies. A tenant's own terms (`Tenant::price_terms`) are compiled into [`counters::OwnPrices`] beside its slot, where
//! [`counters::TenantSlot::own_prices`] finds them without a lock; who never had any costs one look. The terms that hold at
//! the event's time decide: a rate of the tenant's own ([`rules::prices::OwnRates`] asks the list which model a name means),
//! else the list's price with the terms' markup. A rate has a price row of its own, numbered when its change is staged
//! (`Stage::number_rates`); the markup stands in the event beside the row's number. The estimate and its price row's number are part of the event from there on: journal, segments, counters,
//! hours, replay. What has no price is counted as unpriced and named by the alarm `models_unpriced`. A change of prices
//! (`Stage::change_prices`) writes the file, numbers for rows that are new, and the audit record in one commit. Pricing a
//! past range again (`tracker::reprice`) rewrites runs under new names together with the rows that follow; what was charged
//! to limits stays. A tenant with a cost limit is refused a *named* model without a price
//! ([`enforcer::QuotaEnforcer::require_price`]); who names none is decided by amounts alone.
//!
//! **Reserve, work, settle.** [`enforcer::QuotaEnforcer::reserve`] registers an unknown tenant first, takes in memory
//! (`TenantState::take`), and sends the hold to the journal; a denial is noted in the `DenialBook`, which rides on a later
//! commit (within 200 ms), and needs no write of its own. A grant that never got into the queue is undone; one whose commit
//! is unknown stays held and is named in the error. [`enforcer::QuotaEnforcer::settle`] puts a `Settle` operation and its
//! events into one commit; `TenantState::settle` charges the windows of the hold in full and gives the hold back. A hold
//! lapses when the state is next looked at, by `TenantState::advance`; no job is needed.
//!
//! **Check.** [`enforcer::QuotaEnforcer::check`] looks under the tenant's lock: no write, no disk, no await. An unknown
//! tenant is looked at as a new one and not registered.
//!
//! **Warn.** A charge compares what is used with the next threshold of each day's and month's limit
//! (`counters::thresholds`); a minute's limit comes back too soon to be worth a record. What it reaches, each percentage on
//! its own, `writer::apply` collects, and `AlertBook` lets it ride on the next commit (within 200 ms) as an audit record
//! `quota_threshold_crossed`. Whoever is to be told of it, such as a webhook, is told from `AlertBook::recorded`, which is
//! called once for each record after its commit. At a start, restored counters offer again what they had reached, and so
//! does the replay: repeats are dropped by their id. The limit's amount is part of the id, so a tenant that gets a higher
//! limit is warned at its percentages too. `AuditLogger::get_alerts` lists only records whose id it can derive: what a
//! caller writes under the same type is no alert.
//!
//! **Expire.** A tenant past its `plan_expires_at` is refused at once (`Tenant::status_at`). [`tenants::Tenants::expire_due`],
//! called at the start and by the housekeeping, finds it in `writer::Expiries`, a set ordered by time, and stores the status
//! with its audit record `trial_expired`; a change that comes first does so before its own record.
//!
//! **Ceilings.** With `platform.*` settings, [`counters::Platform`] counts and holds what all tenants do, in the windows of
//! `default_zone`, told by whoever changes a tenant's state, in the same step. The shadow's own is kept always, so that a
//! ceiling set later in a day knows what was used before; it is saved among the tenants' counters, and its holds are those of
//! the tenants. (A store from before has none: then it starts as the tenants' counters added up, which is exact for tenants
//! in `default_zone`.) A denial tells the tenant the type, the window and when to try again, never what all use or hold;
//! figures are in `metergate status` and `/metrics`. What cannot be hidden: whether an amount fits, which who may ask often
//! enough can use to find what is left, and with a minute's ceiling the second in which others' use leaves it.
//!
//! **Aggregate.** `UsageTracker::aggregate_usage_metrics` files everything (`Writer::file_everything`), takes the
//! maintenance lock, adds the filed layer's deltas to the stored hour, day and month (`tracker::fold`) and publishes them: in
//! one transaction a [slice](domain::slice) of 4,096 tenants, and of its hours as many as have 8,192 deltas, so that no
//! transaction grows with the tenants, and a tenant's day and month are written once for several hours. An hour is marked
//! for each slice (`slice_hours`): a crash between two transactions leaves nothing by half. With a range it recomputes whole
//! hours above the retention cut from their events, days from hours, months from days (`tracker::recompute`), about 100,000
//! events a step, and writes only rows that differ. The engine's housekeeping folds hours ten minutes after their end, and
//! sooner when memory fills up; a stop folds what moves; reads are exact without it.
//!
//! **Clean up.** `UsageTracker::cleanup_old_realtime_events` files everything, lets `next_cut` decide, counts what falls
//! below the new cut, and publishes it with the whole days that lie below it and the hourly rows older than 90 days; then
//! the fingerprints forget those days. Reads stop at the cut. It is the
//! job `cleanup_old_realtime_events`; a command, `POST /api/admin/jobs` and the cron door run the same job.
//!
//! **Jobs.** [`jobs::Jobs`] runs a job alone (`running`), and writes its last run into the table `jobs` through the writer.
//! The scheduler only triggers: what is due is told by that record and the cron text, so `catch_up` at the start and the
//! watch, which restarts a silent scheduler, lose nothing. A start more than 48 hours after the last commit
//! (`writer::start::doubt_clock`) makes retention wait for `confirm_clock`; the doubt is a record of its own and outlives
//! restarts. The kernel is not asked whether its time is synchronised: that needs unsafe code.
//!
//! **Keys.** A key's secret is 256 random bits, shown by the answer that makes it; the table `api_keys` has its SHA-256.
//! [`writer::KeyBook`] holds all keys in memory, never changed but replaced whole by the writer's thread after a commit, so
//! that the door looks a digest up without a lock. `http::auth::lock` runs before a body is read: it finds the key, refuses
//! one that is unknown or has ended (401) or whose role does not reach (403), checks the tenant where the path names it (404
//! as for one that never was), and puts the `Caller` into the request; handlers ask it about tenants that bodies, queries and
//! ids name, and cut lists to its scope. The built-in key (`admin.key`, `METERGATE_ADMIN_KEY`) is none of the store's. A
//! change is decided by [`rules::keys`] and staged with its audit record (`writer::key_stage`); a rotation makes a key that
//! replaces another, which ends after the overlap. When a key was last used, and the refusals of a known key that wait for
//! their minute, are in memory until the engine's housekeeping calls [`keys::ApiKeys::keep_record`]. Who asked travels as a
//! [`domain::actor::Actor`] into every control-plane audit record: name, key, request, address, agent.
//!
//! **Development.** [`clock::Clock::development`] runs at the machine's pace, so much ahead of it, and that only grows.
//! `http::routes::dev_clock` exists only where the clock can be moved: it moves the clock, and before it answers
//! `Jobs::catch_up_waiting` has run what became due. No scheduler runs there, since it waits by the machine's clock: the
//! watch asks twice a second what is due by ours.
//!
//! **What is documented is what is there.** `http::route_table`, `config::settings_table`, `http::error_table`,
//! `http::metrics_table` and clap's tree are the only places a route, setting, code, metric or command comes from;
//! [`cli::reference`] prints them, and `tests/documentation.rs` compares that with `data/reference.md`, reads the source for
//! codes that are not in the table, and asks the runbook for every alarm. `tests/jobs.rs` compares `/metrics` with its table.
//!
//! **Audit.** `AuditLogger::record` checks entries and hands them to the writer, whose `Stage` looks a caller's id up in
//! `audit_event_ids` (same content: duplicate, other content: conflict) and numbers the rest; a control-plane change stages its
//! records itself, in its own commit. `store::audit_log` writes a record's payload, its leaf (what part 5's tree hashes:
//! index, time and a salted commitment to the payload), its id and about ten keys. The order of indices is the order of
//! times, so a filter is an intersection of key lists, walked from the newest index down, and a cursor is an index. A
//! resolution is a record and an entry in `audit_resolutions`; the original is never touched. `store::audit_tree` writes the
//! complete subtrees of RFC 6962 that a leaf completes in the same transaction; `rules::merkle` makes roots and proofs of
//! them. The writer signs (`writer::checkpoints`, a note of `rules::checkpoint`) when 1,024 records or a minute have passed
//! since the last time, when it is asked, and at a stop; the note goes into `meta` with its commit, and the housekeeping
//! appends it to a file outside. `verify_audit` hashes every leaf, payload and node anew. Retention moves the lowest
//! visible index, then frees payloads, ids and keys in small commits; leaves stay.
//!
//! **Back up, restore.** `Store::back_up` copies every table through one snapshot into a new redb file (`store::copy`, in pieces
//! of 16 MiB), adds a manifest with a digest of each table and the audit root, verifies the file by reading all of it, and
//! renames it. Nothing waits for it; pages that writers replace meanwhile stay in the file until it ends. Restoring
//! verifies a copy of the backup, gives it an epoch (`meta/epoch`) and renames it; the first start records `store_restored`.
//! The signing key is not in a backup.
//!
//! **Erase.** [`erasure::Erasure::erase`], each step repeatable: everything is filed; the audit log is read once, and what
//! concerns the subject is erased 400 records a transaction, each with its record `data_erased` (kind, indices, key; no
//! name); runs that hold such events are written again under a new name with those fields blanked; the counters are saved,
//! so that the journal goes; then the file is written anew (`store::rewrite`): redb frees pages without clearing them, so a
//! copy is made while writers go on, follows once more, and on the writer's thread, between two commits, follows the last
//! time and takes the file's name. Open snapshots read the old file to their end. A blanked chat session becomes the keyed hash
//! that rows count it by, so that recomputing gives the same rows. `meta/erasure_open` stands from the first transaction
//! until the new file has its name, and is the alarm `erasure_unfinished`.
//!
//! **The door.** `http::routes::openai` finds the tenant (of the key, or of `x-metergate-tenant`) and hands the body to
//! [`gateway::Gateway::call`], which runs it in a task of its own, so that a caller who goes away leaves it in order.
//! `CallBody` reads the fields that matter and keeps the bytes; `PromptBound` bounds the prompt without a tokenizer; the hold
//! (prompt and output, an api_call, a chat message or embedding) is on disk before the upstream is asked, and lives 30 s
//! longer than the upstream's timeout. The body goes out as it came in, but for a cap where none was named and
//! `include_usage`. A stream is a `MeteredBody`: each piece is fed to `rules::extract`, looked at event by event, and
//! passed on in the same poll; the usage event that the caller had not asked for is taken out. An `Exchange` settles once, by
//! [`gateway`]'s `Exchange::end` or when it is dropped: answered, failed, timed out, broken off, or left by its caller. It is
//! queued before the caller can see the end, and not waited for. Errors under `/v1/` are put into OpenAI's shape by the
//! frame (`http::openai_shape`). `tests/gateway`: `sixty_four_clients_never_get_more_served_than_the_budget`,
//! `a_stream_passes_byte_for_byte_however_it_is_cut_and_the_extra_usage_is_taken_out_again`, and every ending.
//!
//! **Start after a crash.** `writer::start::start`: redb restores its last commit; plans fill an empty store; tenants and
//! saved counters are loaded twice, for the live state and the shadow; on threads of their own, fingerprints are rebuilt from
//! the id columns without inflating a block; meanwhile events filed but not folded go into the filed layer, and
//! `Tail::replay` applies the journal behind the checkpoints with the same `apply` that ran before. A stop folds and saves
//! the counters, so that nothing is read again or replayed after it. The clock starts no earlier than the last commit.
//!
//! **When the disk fails.** A commit that fails, or a read, ends the redb database it happened in. The writer's thread
//! (`writer::recovery`) answers who waited (`commit_outcome_unknown`, or `storage_unavailable` and `storage_full` where
//! nothing can be on disk), tells everybody by [`writer::Health`], lets go of the database and opens it again over the same
//! [`store::Medium`], at first after 10 ms, then ever later, up to 5 s; what comes meanwhile is refused at once. The file
//! itself stays open and locked, so nobody else takes it between two databases, and what was written since the last good
//! sync is written again first, since after a failed one the kernel shows what is not on the disk. Then the store is asked
//! whether the commit is there: by its sequence number in the journal, or by a mark in `meta` where it changed no journal.
//! If it is, memory takes it in now, under the readers' lock; if not, it never was, and its grants, denials and crossings
//! ride on the next one. A store that lacks what was acknowledged, or has more, is not written again before a restart. The
//! filer waits, and goes on from the checkpoint it finds. Before the file grows, the free space is compared with the step
//! (`store::medium`): a growth that is refused fails before the commit, and until there is room only releases are written.
//! With `on_storage_failure = "open"` a grant that cannot be journaled is kept by memory ([`writer::Health`]) and journaled
//! when the store is back.
//!
//! # What is on disk
//!
//! One file, `metergate.redb`. A record is a version byte and bincode; blocks lead with a version byte and an xxh3 checksum
//! and have formats of their own. `meta/format_version` is 3. A store that is newer is refused; one that is older is copied
//! to `metergate.redb.format-N` and then brought up in one transaction (`store::migration`); going back is putting the copy
//! in its place. A record whose layout changes gets a new version byte and is read in all its versions for ever, so most
//! changes need no migration.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | records: `format_version`, `store_id`, `secret`, `checkpoint`, `realtime_cut`, `audit_cut`; `epoch`, `restored` (JSON), `erasure_open` |
//! | `journal` | commit sequence | block: nonce, time, first entry id, operations (holds, settlements, releases, denials, tenants), lz4 of the events' columns |
//! | `tenant_usage_realtime_NNNNNN`, one per UTC day since 1970 | run, first tenant, block | block just below 32 KiB: tenant directory, time span, packed ids, zstd of the events' columns |
//! | `runs` | UTC day, run | record: events, first and last entry id and time |
//! | `denials` | UTC day, run | record: the denials that a filing brought |
//! | `slice_hours` | (UTC hour, slice of 4,096 tenants) | entry ids: filed through, folded through (plain integers) |
//! | `tenant_usage_metrics` | period type, period, first tenant | block just below 8 KiB: rows by tenant, totals first |
//! | `tenants` | tenant number | record: id, name, labels, plan, zone, status, mode, thresholds, own limits, history of token limits, own prices |
//! | `plans` | name | record: limits, thresholds |
//! | `prices` | `book` | record: format, text and time of the price file in force |
//! | `price_rows` | price row number | record: a row as it was, its source, or whose own it is; never changed, never removed |
//! | `quota_state` | tenant number / 256 | record: counters and the zone their windows end by, open holds, holds ended in the last 24 hours; under the last number what the platform used |
//! | `jobs` | name | record: last run, last success, failures; `confirm_clock`: whether the clock is in doubt |
//! | `api_keys` | key id | record: name, role, tenants, digest, ends, last use, what it replaces |
//! | `audit_events` | index | one audit record: version 2, 32 bytes of salt, bincode (version 1: no salt) |
//! | `audit_leaves` | index | version, index, recorded_at, SHA-256 of the record's bytes above |
//! | `audit_nodes` | level, place | SHA-256 of a complete subtree over the leaves (RFC 6962) |
//! | `audit_event_ids` | event id, hash of its tenant | index, digest of the caller's fields (plain integers) |
//! | `audit_keys` | hash of a field's value, index | nothing |
//! | `audit_erased` | index | event id and hash of its tenant, which stay known (plain integers) |
//! | `backups` | name | record: id, time, size, audit size and root |
//! | `backup_manifest` | `manifest` | only in backups: JSON, a digest of each table |
//! | `audit_resolutions` | index of the resolved | index of its resolution |
//!
//! Blocks of events have two versions: the second only where an event has a provider, its usage or an estimate, so that
//! other blocks are byte for byte what they were; a markup stands above the number of its price row, as zigzag. Rows by model stand at the end of a row, and only where there are some.
//!
//! Tenants are numbers on disk, given once and never reused. The journal's nonce is keyed by the store's secret, so that a
//! caller cannot choose bytes that make a half-written commit look whole; that is what one-phase commits rest on. Two
//! UUIDv7 of one tenant that differ in nothing but their clock share a fingerprint, and are told apart by the whole id.
//!
//! # One consistent read
//!
//! A reader takes the read lock of [`live`], then the store's snapshot, copies what it needs and lets go of the lock before
//! it reads the disk. A publication, which moves something from memory to disk (a filing, a fold), commits *while holding
//! the write lock*. So whatever moves is seen here or there, never twice and never not at all. Plain commits need no such
//! care: rows do not read the journal, and raw events (`get_tenant_events`) read the journal and the segments from one
//! snapshot alone.
//!
//! # Where this is not the measured prototype, and why
//!
//! - *Generations.* Unfiled events pass through memory in generations of 50,000 events or 20 seconds, filed as a whole. A
//!   generation has its own ids and hour deltas, so filing drops it in one step instead of picking a tail apart.
//!   Recording waits while 40 of them are unfiled, or while more tenant hours wait for their fold than memory is to hold.
//! - *Deltas are folded, rows are not rebuilt.* An hour keeps only what it gained since its row was written; folding adds
//!   it to hour, day and month. Only `peak_qps` needs the hour's events again, when an hour is folded a second time.
//! - *Repeats are decoded on the caller's thread.* The prototype inflated blocks on the writer's thread, and 0.8 % of
//!   repeats halved its rate. `FiledIds` asks a block for the one event, by its packed ids, and remembers all ids of a block
//!   (a million in all, as hash and content) when a second one is found in it, since repeats come in company; the writer
//!   looks again only for what was filed in between.
//! - *The shadow.* Live counters run ahead of the journal (they hold grants that are not committed), so they cannot be
//!   saved at a checkpoint. The filer keeps a second set that only filed commits move, and saves that.
//! - *Two checkpoints.* `filed_seq` moves with each filing, `state_seq` only when counters are saved (after 100,000 to
//!   500,000 events and operations, by how many tenants moved; or a minute; or at a stop); the journal is kept back to the
//!   older of the two, and replayed from it.
//! - *The writer's transaction only inserts.* Rows and saved counters are merged into their blocks, and encoded, by whoever
//!   changes them, from a snapshot taken while it alone may change them (`Writer::maintenance`); see
//!   `MetricsReader::row_blocks`, `Snapshot::state_blocks`.
//! - *Blocks of rows have 8 KiB*, not 32: a row costs its block's read and checksum. Overviews, which read every block, paid
//!   for it: the three scans of 100,000 tenants took 570 ms before and 800 after, until their totals were kept.
//! - *An overview's totals are kept* until rows change (`writer::StoredTotals`): its parts ask for the same range.
//! - *Compact events.* What a caller gives ([`domain::event::UsageEvent`], 464 bytes) becomes a
//!   [`domain::compact_event::CompactEvent`] (120 bytes) on the caller's thread: names by number ([`domain::names`]), counts
//!   in 32 bits, what is rare behind a pointer. Fresh memory is what costs most on the machine it was measured on.
//! - *Company.* A command whose receipt was dropped (the settlement of a forwarded call, `?ack=queued`) waits up to 2 ms for
//!   others, and no longer than until one comes that somebody waits for. From eight callers on, a commit waits for those whom
//!   the last one answered and who came meanwhile, at most a quarter of the time that one took (`WriterThread::in_company`).
//! - *One bell.* Threads that wait for a commit are told one by one and woken together (`writer::bell`): waking each by itself
//!   took the writer longer than its commit. Tasks have wakers of their own.
//! - *The filer takes commits from memory* (`writer::Unfiled`), up to 32 MiB of them, and reads the journal for the rest.
//! - *Passes.* What a batch looks up in large tables (tenants, fingerprints) it looks up in loops that do nothing else
//!   (`Shared::prepare`), so that the look-ups wait for memory together: a look-up is a cache miss, or two.
//! - *Not built:* encoding one commit while the last one syncs, and merging a day at its close (of a day with more than 8
//!   small runs the oldest are merged, 250,000 events at most, instead).
//!
//! # Deliberately absent
//!
//! A cluster (one process owns a folder); an async engine (threads and receipts, so that a library user needs no runtime);
//! a storage trait (redb's own is enough: a [`store::Medium`] only hands it out again after a failure); a crate-wide error
//! (each module owns its own, `http` maps them once); floats in money; unbounded queues, batches, pages or bodies; refusing facts: recording is never denied
//! for a quota.
//!
//! # Rooms for what comes later
//!
//! `export` stands on floor 5 beside the tracker; `tests/floors.rs` has its place. The dashboard belongs
//! to [`http`]. Alerts are delivered from `AlertBook::recorded`, where a crossing is known to be on disk.

pub mod app;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod counters;
pub mod domain;
pub mod enforcer;
pub mod engine;
pub mod erasure;
pub mod gateway;
pub mod http;
pub mod ids;
pub mod jobs;
pub mod keys;
pub mod live;
pub mod rules;
pub mod store;
pub mod tenants;
pub mod tracker;
pub mod writer;

#[cfg(test)]
#[path = "../tests/fuzz/driver.rs"]
mod fuzz;
#[cfg(test)]
#[path = "../tests/fuzz/mutate.rs"]
mod mutate;
#[cfg(test)]
#[path = "../tests/support/random.rs"]
mod random;

pub use engine::{Metergate, OpenError};

/// Compiles what README.md shows.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
