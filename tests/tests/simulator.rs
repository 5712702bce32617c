//! Seeded histories of the aggregator, the predictor and the alerter, each compared with its oracle.
//!
//! `TRAFFIC_SIM_SEEDS=N` and `TRAFFIC_SIM_FROM=S` hunt further; `traffic-sim` does it with a progress line.

use alerter::{Incidents, Rules};
use common::stream::memory::{Fault, Point};
use common::stream::{Machine, Outbox, Record, Records, Tick};
use predictor::{Predictor, Slot};
use tests::simulator::{self, Allowed, Failure, History, Play, Strike, Summary, hunt};

#[test]
fn histories_end_as_the_oracle_says() {
    let (seeds, sum) = play_all(10_000, &simulator::aggregator);
    println!("{seeds} histories of the aggregator: {sum:?}");
    // The faults do strike: a simulator that never crashes anything proves nothing.
    assert!(sum.crashes as u64 > seeds && sum.rebalances as u64 > seeds && sum.late > 0);
    every_fault_struck(seeds, &sum);
}

#[test]
fn forecasts_are_those_of_an_undisturbed_predictor() {
    let (seeds, sum) = play_all(1_000, &simulator::predictor);
    println!("{seeds} histories of the predictor: {sum:?}");
    assert!(sum.crashes as u64 > seeds && sum.rebalances as u64 > seeds && sum.outputs as u64 > 50 * seeds);
    every_fault_struck(seeds, &sum);
}

#[test]
fn transitions_are_those_of_an_undisturbed_alerter() {
    let (seeds, sum) = play_all(1_000, &simulator::alerter);
    println!("{seeds} histories of the alerter: {sum:?}");
    assert!(sum.crashes as u64 > seeds && sum.rebalances as u64 > seeds && sum.outputs as u64 > 5 * seeds);
    every_fault_struck(seeds, &sum);
}

/// Each fault at each point, and each of the world's, in these seeds if they are many.
fn every_fault_struck(seeds: u64, sum: &Summary) {
    let never: Vec<_> = Strike::all().into_iter().filter(|strike| sum.tally.of(*strike) == 0).collect();
    assert!(seeds < 1_000 || never.is_empty(), "never: {never:?}");
}

/// Plays as many histories as are asked for, on all processors.
fn play_all(default: u64, history: &History<'_>) -> (u64, Summary) {
    let (from, seeds) = (number("TRAFFIC_SIM_FROM", 0), number("TRAFFIC_SIM_SEEDS", default));
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get) as u64;
    let mut total = Summary::default();
    std::thread::scope(|scope| {
        let some = |first: u64| {
            let mut sum = Summary::default();
            for seed in (from + first..from + seeds).step_by(usize::try_from(threads).expect("few threads")) {
                match hunt(history, seed) {
                    Ok(summary) => sum += summary,
                    Err(report) => panic!("{report}"),
                }
            }
            sum
        };
        let hands: Vec<_> = (0..threads).map(|first| scope.spawn(move || some(first))).collect();
        for hand in hands {
            total += hand.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    (seeds, total)
}

#[expect(clippy::disallowed_methods, reason = "the one setting of this test")]
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn a_seed_is_one_history() {
    for history in [simulator::aggregator as fn(&Play) -> Result<Summary, Failure>, simulator::alerter] {
        for seed in 0..20 {
            assert_eq!(history(&Play::seed(seed)), history(&Play::seed(seed)), "seed {seed}");
        }
    }
}

#[test]
fn a_replay_leaves_faults_out() {
    let whole = simulator::aggregator(&Play::seed(3)).expect("this seed is right");
    assert!(whole.tally.of(Strike::LateMarkers) > 0);
    let none = Play { allowed: Allowed::Only([].into()), ..Play::seed(3) };
    let quiet = simulator::aggregator(&none).expect("nothing goes wrong");
    assert_eq!((quiet.tally, quiet.crashes, quiet.rebalances), (simulator::Tally::default(), 0, 0));
    assert_eq!(quiet.events, whole.events, "the feed is the same");
}

/// A partition holds nothing but malformed records for more than a minute and tells the other that it holds nobody
/// back. Only then an event comes to it, and before it is read and forwarded the other, its owner, has gone on by more
/// than a window and its lateness: late, though its sender was not (ADR 2).
#[test]
fn a_first_event_of_a_partition_that_was_empty_is_late_where_its_owner_did_not_wait() {
    const SEED: u64 = 2_118_807;
    simulator::aggregator(&Play::seed(SEED)).expect("the whole history is right");
    let quiet = Play { allowed: Allowed::Only([].into()), ..Play::seed(SEED) };
    let summary = simulator::aggregator(&quiet).expect("and so it is without faults");
    assert!(summary.late > 0, "{summary:?}");
}

/// A machine that forgets what the changelog says.
struct Forgetful<M>(M);

impl<M: Machine> Machine for Forgetful<M> {
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

    fn tailed(&mut self, record: &Record<'_>, now_ms: i64, out: &mut Outbox) {
        self.0.tailed(record, now_ms, out);
    }

    fn takes_more(&self, partition: u32) -> bool {
        self.0.takes_more(partition)
    }

    fn is_settled(&self) -> bool {
        self.0.is_settled()
    }
}

/// What one of 50 histories shows.
fn found_out(history: &History<'_>) {
    let found = (0..50).find_map(|seed| history(&Play::seed(seed)).err());
    println!("{}", found.expect("50 histories with crashes must show it").what);
}

#[test]
fn a_machine_that_forgets_its_state_is_found_out() {
    let forgetful = || Forgetful(aggregator::Aggregator::new(aggregator::Settings::default()));
    found_out(&|history| simulator::play(history, &forgetful));
}

#[test]
fn a_predictor_that_forgets_its_state_is_found_out() {
    let forgetful = || Forgetful(Predictor::new(simulator::predictor_settings(), Slot::default()));
    found_out(&|history| simulator::play_predictor(history, &forgetful));
}

#[test]
fn an_alerter_that_forgets_its_state_is_found_out() {
    let rules = || Rules::new(alerter::Settings::default());
    found_out(&|history| simulator::play_alerter(history, &|| Forgetful(rules()), &Incidents::new));
}

#[test]
fn strikes_are_shown_in_words() {
    for (strike, expected) in [
        (Strike::Call(Point::Join, Fault::Crash), "dies at Join"),
        (Strike::Call(Point::Send, Fault::Fail), "Send fails"),
        (Strike::Call(Point::EndTransaction, Fault::FailAfter), "EndTransaction does its work and fails"),
        (Strike::ClockSet, "clock is set"),
    ] {
        assert_eq!(strike.to_string(), expected);
    }
}
