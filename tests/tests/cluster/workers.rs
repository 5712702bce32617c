//! Faults of the workers.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use tests::network::Network;

use super::flow::{AGGREGATOR, ALERTER, ALL, DEADLINE, Flow, PREDICTOR, TOWN, pass};
use super::watch::Watch;

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "long: ./test.sh --long"]
fn scaled_out_and_in_under_load() {
    let Some(mut flow) = Flow::new(TOWN, 1) else { return };
    flow.start_all(&ALL, 2);
    flow.feed(60 * SECOND);
    flow.pass(8 * SECOND);
    for worker in ALL {
        flow.start(worker, "i2");
    }
    flow.pass(10 * SECOND);
    assert!(flow.is_fed(), "nothing is to be scaled any more");
    for worker in ALL {
        flow.stop(worker, "i0");
        flow.stop(worker, "i2");
    }
    flow.check(&ALL);
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn killed_at_any_moment_and_started_again() {
    let Some(mut flow) = Flow::new(TOWN, 2) else { return };
    flow.start_all(&ALL, 2);
    flow.feed(60 * SECOND);
    pass(4 * SECOND);
    let mut killed = 0;
    while flow.is_fed() {
        flow.pass(SECOND);
        let worker = ALL[usize::try_from(flow.below(3)).expect("small")];
        let instance = format!("i{}", flow.below(2));
        flow.kill(worker, &instance);
        // At once, or so late that the other instance has taken over.
        let away = if flow.below(4) == 0 { 9 * SECOND } else { Duration::from_millis(flow.below(300)) };
        pass(away);
        flow.start(worker, &instance);
        killed += 1;
    }
    println!("killed {killed} times");
    assert!(killed >= 10, "only {killed}");
    flow.check(&ALL);
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn frozen_for_a_minute_and_fenced() {
    let Some(mut flow) = Flow::new(TOWN, 3) else { return };
    flow.start_all(&ALL, 2);
    flow.feed(100 * SECOND);
    flow.pass(6 * SECOND);
    let watch = Watch::begin(&flow, AGGREGATOR);
    let frozen_ms = SystemClock.now_ms();
    for worker in [AGGREGATOR, PREDICTOR] {
        flow.process(worker, "i0").freeze();
    }
    pass(60 * SECOND);
    let (pauses, _) = watch.end().longest_pauses_ms(frozen_ms, SystemClock.now_ms());
    println!("frozen; pauses of its partitions, ms: {pauses:?}");
    assert!(pauses.values().all(|pause| *pause < 40_000), "nobody took over: {pauses:?}");
    assert!(flow.is_fed(), "the frozen ones come back too late to do harm");
    for worker in [AGGREGATOR, PREDICTOR] {
        flow.process(worker, "i0").thaw();
        let said = flow.process(worker, "i0").wait_for_log(DEADLINE, "joining again");
        println!("{worker}: {said}");
    }
    flow.check(&ALL);
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn cut_off_for_a_while_and_back() {
    let Some(mut flow) = Flow::new(TOWN, 4) else { return };
    let routes = flow.cluster.proxied();
    let network = Network::between(&routes);
    let brokers: Vec<&str> = routes.iter().map(|(proxy, _)| proxy.as_str()).collect();
    let behind = [("TRAFFIC_LOG", format!("kafka://{}", brokers.join(",")))];
    for worker in [AGGREGATOR, PREDICTOR] {
        flow.start_with(worker, "i0", &behind);
        flow.start(worker, "i1");
    }
    flow.start(ALERTER, "i0");
    flow.feed(100 * SECOND);
    flow.pass(8 * SECOND);
    let watch = Watch::begin(&flow, AGGREGATOR);
    let cut_ms = SystemClock.now_ms();
    network.cut();
    pass(40 * SECOND);
    network.mend();
    for worker in [AGGREGATOR, PREDICTOR] {
        let said = flow.process(worker, "i0").wait_for_log(DEADLINE, "joining again");
        println!("{worker}: {said}");
    }
    pass(5 * SECOND);
    let (pauses, _) = watch.end().longest_pauses_ms(cut_ms, SystemClock.now_ms());
    println!("cut off; pauses of its partitions, ms: {pauses:?}");
    assert!(pauses.values().all(|pause| *pause < 38_000), "nobody took over: {pauses:?}");
    flow.check(&ALL);
}
