//! Two thousand seeded histories of the aggregator, each compared with its oracle.
//!
//! `TRAFFIC_SIM_SEEDS=N` and `TRAFFIC_SIM_FROM=S` hunt further.

use common::stream::{Machine, Outbox, Records, Tick};
use tests::simulator;

#[test]
fn histories_end_as_the_oracle_says() {
    let (from, seeds) = (number("TRAFFIC_SIM_FROM", 0), number("TRAFFIC_SIM_SEEDS", 2_000));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get) as u64;
    let (mut events, mut crashes, mut rebalances, mut late) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        let play = |first: u64| {
            let mut done = Vec::new();
            for seed in (from + first..from + seeds).step_by(usize::try_from(threads).expect("few threads")) {
                match simulator::aggregator(seed) {
                    Ok(summary) => done.push(summary),
                    Err(what) => panic!("{what}"),
                }
            }
            done
        };
        let hands: Vec<_> = (0..threads).map(|first| scope.spawn(move || play(first))).collect();
        for hand in hands {
            for summary in hand.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)) {
                events += summary.events;
                crashes += summary.crashes;
                rebalances += summary.rebalances;
                late += summary.late;
            }
        }
    });
    println!("{seeds} histories: {events} events, {crashes} crashes, {rebalances} rebalances, {late} late");
    // The faults do strike: a simulator that never crashes anything proves nothing.
    assert!(crashes as u64 > seeds && rebalances as u64 > seeds && late > 0);
}

#[expect(clippy::disallowed_methods, reason = "the one setting of this test")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A machine that forgets what the changelog says.
struct Forgetful(aggregator::Aggregator);

impl Machine for Forgetful {
    fn assign(&mut self, partition: u32, partitions: u32) {
        self.0.assign(partition, partitions);
    }

    fn restore(&mut self, _partition: u32, _key: &[u8], _value: Option<&[u8]>) {}

    fn records(&mut self, records: &Records<'_>, now_ms: i64, out: &mut Outbox) {
        self.0.records(records, now_ms, out);
    }

    fn tick(&mut self, partition: u32, tick: Tick, out: &mut Outbox) {
        self.0.tick(partition, tick, out);
    }

    fn flush(&mut self, partition: u32, now_ms: i64, out: &mut Outbox) {
        self.0.flush(partition, now_ms, out);
    }

    fn release(&mut self, partition: u32) {
        self.0.release(partition);
    }
}

#[test]
fn a_machine_that_forgets_its_state_is_found_out() {
    let forgetful = || Forgetful(aggregator::Aggregator::new(aggregator::Settings::default()));
    let found = (0..50).find_map(|seed| simulator::play(seed, &forgetful).err());
    println!("{}", found.expect("50 histories with crashes must show it"));
}
