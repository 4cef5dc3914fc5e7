//! S1: decide and take, in memory.

use super::run;
use crate::bench::Bench;
use crate::program::{Program, in_turn, median};
use crate::table::{Bar, Row};

/// At three sizes beside limitador; at the size of the bar beside everybody.
pub fn s1(bench: &Bench) {
    let rounds = bench.sized(3_000_000) as u64;
    for tenants in [10, 1_000, 100_000] {
        let asked = |program: Program| program.with("tenants", tenants).with("rounds", rounds);
        // Slow ones are asked less often: it is the time of one that counts.
        let few = |program: Program| program.with("tenants", tenants).with("rounds", rounds / 20);
        let ours = asked(Program::ours("decide"));
        let one = bench.peer("limitador").map(few).map(|peer| peer.with("limits", 1));
        let four = bench.peer("limitador").map(few).map(|peer| peer.with("limits", 4));
        let (governor, map) = (bench.peer("governor").map(asked), bench.peer("map").map(asked));
        let [ours, one, four, governor, map] = in_turn(
            bench.rounds,
            [
                &mut || ours.run(),
                &mut || run(one.as_ref()),
                &mut || run(four.as_ref()),
                &mut || run(governor.as_ref()),
                &mut || run(map.as_ref()),
            ],
        );
        let row = |bar| {
            let work = format!("decide, take and charge four limits, {tenants} tenants");
            Row::alone("S1", work, median(&ours, "ns").unwrap(), "ns", rounds, bar)
        };
        let at_the_bar = tenants == 1_000;
        let bar = |bar| if at_the_bar { bar } else { Bar::None };
        bench.row(row(bar(Bar::AtMost(150.0))));
        bench.row(row(bar(Bar::TimesFaster(10.0))).beside("limitador, one limit", median(&one, "ns")));
        bench.row(row(bar(Bar::TimesFaster(10.0))).beside("limitador, four limits", median(&four, "ns")));
        bench.row(row(Bar::None).beside("governor, one limit", median(&governor, "ns")));
        bench.row(row(Bar::None).beside("hash look-up + add", median(&map, "ns")));
    }
    let hot = Program::ours("decide-hot").with("rounds", rounds);
    let answers: Vec<_> = (0..bench.rounds).map(|_| hot.run()).collect();
    let rate = median(&answers, "rate").unwrap();
    bench.row(Row::alone("S1", "the same, two threads, one hot tenant", rate, "/s", rounds, Bar::AtLeast(3e6)));
    let over = answers.iter().map(|answer| answer["over_the_limit"].as_i64().unwrap().abs()).max().unwrap_or(0);
    bench.row(Row::alone("S1", "grants beside the limit, then", over as f64, "", rounds, Bar::AtMost(0.0)));
}
