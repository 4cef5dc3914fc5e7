//! `metergate demo`: a development server with a week behind it and traffic flowing, so that everything can be looked at.

mod live;
mod random;
mod tenants;
mod traffic;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;

use super::backend::Backend;
use super::failure::{Exit, Failure};
use super::local::Purpose;
use super::serve::{self, ServeArgs};
use super::show;
use super::target::{Global, Target};
use live::Caller;

/// Shown under `--help`.
pub const AFTER_HELP: &str = "\
Examples:
  metergate demo                                 then, in another terminal, what it prints
  metergate demo --listen 127.0.0.1:0 --rate 10 --seed 42

Seven invented tenants on the shipped plans, some of them at their limits: the last 7 days are filled in first, then
calls are reserved, settled, denied, failing and slow, at a steady rate until Ctrl-C. The folder is temporary and goes
away at the end (--data-dir keeps it), the address is loopback only, and POST /api/dev/clock moves the clock.
The same --seed makes the same calls.";

/// Flags of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Live calls a second
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// Decides which calls are made
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// off, error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    log_level: String,
}

/// Serves with traffic until SIGTERM or SIGINT; the traffic ends before what it was about is removed.
pub fn run(global: &Global, args: &DemoArgs) -> Result<Exit, Failure> {
    let settings = serve::settings(global, Vec::new())?;
    let (stop, stopped) = channel();
    let traffic: Arc<Mutex<Option<JoinHandle<()>>>> = Arc::default();
    let (started, seed, pause) = (traffic.clone(), args.seed, Duration::from_secs(1) / args.rate);
    let on_listening = move |address: SocketAddr, key: &str| {
        let url = format!("http://{address}");
        introduce(&url, key);
        let target = Target { server: Some(url), key: Some(key.to_owned()), json: false };
        let begin = move || match Backend::open(&target, &settings, Purpose::Write) {
            Ok(backend) => flow(&Caller { backend, seed, pause }, &stopped),
            Err(failure) => show::note(format!("no traffic: {failure}")),
        };
        match std::thread::Builder::new().name("demo-traffic".to_owned()).spawn(begin) {
            Ok(thread) => *started.lock() = Some(thread),
            Err(error) => show::note(format!("no traffic: a thread cannot be started: {error}")),
        }
    };
    let served = serve::serve(global, &ServeArgs::of_demo(&args.listen, &args.log_level), on_listening);
    drop(stop);
    let thread = traffic.lock().take();
    if thread.is_some_and(|thread| thread.join().is_err()) {
        show::note("the traffic broke off");
    }
    served
}

fn introduce(url: &str, key: &str) {
    show::print(format!("admin key: {key}"));
    show::print("Try, in another terminal:");
    for words in ["top", "alerts", "usage acme --by-model"] {
        show::print(format!("  metergate {words} --server {url} --key {key}"));
    }
}

/// All of it, in order. A server that stopped is how it ends.
fn flow(caller: &Caller, stop: &Receiver<()>) {
    let filled = caller.set_up().and_then(|()| caller.fill_in(crate::clock::Clock::system(Default::default()).now()));
    match filled {
        Ok(events) => show::print(format!(
            "the last 7 days are filled in ({} events); now calls flow until Ctrl-C",
            show::grouped(events)
        )),
        Err(failure) if failure.exit == Exit::Unreachable => return,
        Err(failure) => return show::note(format!("the last days could not be filled in: {failure}")),
    }
    match caller.reach_limits().and_then(|()| caller.call_until(stop)) {
        Err(failure) if failure.exit != Exit::Unreachable => show::note(format!("the traffic ended: {failure}")),
        Ok(()) | Err(_) => {}
    }
}
