//! How long commits stand still, with 2,000 segments: in a restart, a takeover, a rolling restart.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};

use super::flow::{AGGREGATOR, DEADLINE, Flow, REGION, pass};
use super::watch::Watch;

const SECOND: Duration = Duration::from_secs(1);
const INSTANCES: [&str; 3] = ["i0", "i1", "i2"];

/// What an operator may count on, ms.
const RESTART_MS: i64 = 1_500;
const TAKEOVER_MS: i64 = 18_000;
const ROLLING_MS: i64 = 5_000;
/// So much longer it may take where others use the machine too.
const TOLERANCE: i64 = 2;

/// What happens in `act` and `settle` thereafter: the longest pause of the worst partition, and of all together, ms.
fn measured(flow: &mut Flow, what: &str, settle: Duration, act: impl FnOnce(&mut Flow)) -> (i64, i64) {
    let watch = Watch::begin(flow, AGGREGATOR);
    pass(2 * SECOND);
    let began_ms = SystemClock.now_ms();
    act(flow);
    pass(settle);
    assert!(flow.is_fed(), "{what}: commits stand still since nothing is sent");
    let (pauses, overall) = watch.end().longest_pauses_ms(began_ms - 1_000, SystemClock.now_ms());
    let worst = pauses.values().copied().max().unwrap_or(0);
    println!("{what}: longest pause of a partition {worst} ms, of the whole {overall} ms ({pauses:?})");
    (worst, overall)
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn restart_takeover_and_scaling_in() {
    let Some(mut flow) = Flow::new(REGION, 21) else { return };
    flow.start_all(&[AGGREGATOR], 3);
    flow.feed(150 * SECOND);
    pass(10 * SECOND);
    let (quiet, _) = measured(&mut flow, "nothing happens", 3 * SECOND, |_| {});
    let mut restarts = Vec::new();
    for (round, instance) in INSTANCES.iter().enumerate() {
        let what = format!("killed and started again ({})", round + 1);
        let (worst, _) = measured(&mut flow, &what, 4 * SECOND, |flow| {
            flow.kill(AGGREGATOR, instance);
            flow.start(AGGREGATOR, instance);
        });
        restarts.push(worst);
    }
    let (takeover, _) = measured(&mut flow, "killed, taken over by others", 25 * SECOND, |flow| {
        flow.kill(AGGREGATOR, "i1");
    });
    let (joined, _) = measured(&mut flow, "scaled out", 5 * SECOND, |flow| flow.start(AGGREGATOR, "i1"));
    let (left, _) = measured(&mut flow, "scaled in", 14 * SECOND, |flow| flow.stop(AGGREGATOR, "i2"));
    println!(
        "quiet {quiet} ms, restart {restarts:?} ms, takeover {takeover} ms, scaling out {joined} ms, scaling in {left} ms"
    );
    flow.check(&[AGGREGATOR]);
    assert!(restarts.iter().all(|worst| *worst <= RESTART_MS * TOLERANCE), "{restarts:?}");
    assert!(takeover <= TAKEOVER_MS, "{takeover}");
    assert!(left <= TAKEOVER_MS, "{left}");
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn takeover_of_a_transaction_that_was_left_open() {
    let Some(mut flow) = Flow::new(REGION, 23) else { return };
    let dies = [("TRAFFIC_FAILPOINT", "60".to_owned())];
    flow.start_all(&[AGGREGATOR], 2);
    flow.start_with(AGGREGATOR, "i2", &dies);
    flow.feed(100 * SECOND);
    let (worst, _) =
        measured(&mut flow, "died between offsets and commit, taken over by others", 25 * SECOND, |flow| {
            flow.expect_death(AGGREGATOR, "i2");
        });
    flow.check(&[AGGREGATOR]);
    assert!(worst <= TAKEOVER_MS + 1_000, "{worst}");
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn rolling_restart() {
    let Some(mut flow) = Flow::new(REGION, 22) else { return };
    flow.start_all(&[AGGREGATOR], 3);
    flow.feed(60 * SECOND);
    pass(10 * SECOND);
    let (worst, overall) = measured(&mut flow, "rolling restart", 4 * SECOND, |flow| {
        for instance in INSTANCES {
            flow.stop(AGGREGATOR, instance);
            flow.start(AGGREGATOR, instance);
            flow.process(AGGREGATOR, instance).wait_for_log(DEADLINE, "partitions taken over");
        }
    });
    flow.check(&[AGGREGATOR]);
    assert!(worst <= ROLLING_MS && overall <= ROLLING_MS, "{worst}, {overall}");
}
