//! Faults of the brokers, and of those who write to them.

use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use common::stream::{Log as _, TopicPartition};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tests::wait_until;

use super::flow::{AGGREGATOR, ALL, DEADLINE, Flow, TOWN};
use super::watch::Watch;

const SECOND: Duration = Duration::from_secs(1);

/// Kills the broker that `victim` names at a moment that the seed decides, and brings it back.
fn killed(seed: u64, victim: impl FnOnce(&mut Flow) -> u32) {
    let Some(mut flow) = Flow::new(TOWN, seed) else { return };
    flow.start_all(&ALL, 2);
    flow.feed(60 * SECOND);
    flow.pass(8 * SECOND);
    let victim = victim(&mut flow);
    flow.cluster.kill(victim);
    flow.pass(7 * SECOND);
    flow.cluster.restart(victim);
    assert!(flow.is_fed(), "the broker came back too late to matter");
    flow.check(&ALL);
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn the_leader_of_a_partition_of_events_is_killed() {
    killed(11, |flow| {
        let partition = u32::try_from(flow.below(6)).expect("small");
        flow.cluster.leader(&flow.topics().events, partition)
    });
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn the_controller_is_killed() {
    killed(12, |flow| flow.cluster.controller());
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn the_transactions_coordinator_is_killed() {
    killed(13, |flow| flow.cluster.transaction_coordinator(&format!("{}{AGGREGATOR}-i0", flow.prefix)));
}

#[test]
#[ignore = "long: ./test.sh --long"]
fn a_sender_that_dies_in_a_transaction_holds_readers_back_for_a_while() {
    const PARTITION: u32 = 2;
    let Some(mut flow) = Flow::new(TOWN, 14) else { return };
    flow.start_all(&ALL, 2);
    flow.feed(80 * SECOND);
    flow.pass(5 * SECOND);
    let (log, topic) = (flow.log(), flow.topics().events);
    let at = TopicPartition::new(&topic, PARTITION);
    let watch = Watch::begin(&flow, AGGREGATOR);
    let began_ms = SystemClock.now_ms();
    die_in_a_transaction(&flow, &topic, PARTITION);
    let ends = wait_until(DEADLINE, "readers that are held back", || log.ends(&at).ok().filter(|e| e.stable < e.high));
    println!("held back: {ends:?}");
    let after_ms = wait_until(DEADLINE, "the end of the dead sender's transaction", || {
        log.ends(&at).ok().filter(|now| now.stable > ends.stable).map(|_| SystemClock.now_ms() - began_ms)
    });
    println!("let go after {after_ms} ms");
    assert!(after_ms >= 19_000, "the transaction's timeout is 20 s");
    flow.pass(2 * SECOND);
    let (pauses, _) = watch.end().longest_pauses_ms(began_ms, SystemClock.now_ms());
    println!("pauses, ms: {pauses:?}");
    assert!(pauses[&PARTITION] >= 15_000, "{pauses:?}");
    assert!(flow.is_fed(), "the transaction has ended too late to matter");
    flow.check(&ALL);
}

/// Sends an event in a transaction and is gone: nobody commits or aborts it.
fn die_in_a_transaction(flow: &Flow, topic: &str, partition: u32) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", flow.cluster.servers())
        .set("transactional.id", format!("{}sender", flow.prefix))
        .set("transaction.timeout.ms", "20000")
        .create()
        .expect("a producer");
    producer.init_transactions(10 * SECOND).expect("ready");
    producer.begin_transaction().expect("begun");
    let event = br#"{"event_id":"never","segment_id":"SEG_NEVER","timestamp":"2026-01-05T15:00:00Z","speed_kmh":1.0}"#;
    let record = BaseRecord::<[u8], [u8]>::to(topic).partition(partition.cast_signed()).payload(event);
    producer.send(record).map_err(|(error, _)| error).expect("sent");
    producer.flush(10 * SECOND).expect("acknowledged");
}
