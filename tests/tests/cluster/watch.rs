//! How fast a group's commits move, partition by partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::clock::{Clock as _, SystemClock};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::flow::{Flow, PARTITIONS, pass};

/// When, epoch ms, which partition's committed offset was seen to have moved.
type Moves = Vec<(i64, u32)>;

/// Watches the committed offsets of the aggregator's group in the topic of events.
pub struct Watch {
    stop: Arc<AtomicBool>,
    watching: JoinHandle<Moves>,
}

/// What was seen.
#[derive(Debug)]
pub struct Seen(Moves);

impl Watch {
    /// Begins to watch, some forty times a second.
    pub fn begin(flow: &Flow, group: &str) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", flow.cluster.servers())
            .set("group.id", format!("{}{group}", flow.prefix))
            // Not to wait for transactions: what is shown is committed all the same.
            .set("isolation.level", "read_uncommitted")
            .create()
            .expect("a client");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (stop.clone(), flow.topics().events);
        let watching = std::thread::spawn(move || {
            let mut list = TopicPartitionList::new();
            for number in 0..PARTITIONS {
                list.add_partition(&topic, number.cast_signed());
            }
            let (mut known, mut moves) = (BTreeMap::new(), Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                if let Ok(found) = consumer.committed_offsets(list.clone(), Duration::from_secs(2)) {
                    let now_ms = SystemClock.now_ms();
                    for element in found.elements() {
                        let Offset::Offset(next) = element.offset() else { continue };
                        let number = element.partition().cast_unsigned();
                        if known.insert(number, next) != Some(next) {
                            moves.push((now_ms, number));
                        }
                    }
                }
                pass(Duration::from_millis(25));
            }
            moves
        });
        Self { stop, watching }
    }

    /// Ends, and tells what was seen.
    pub fn end(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        Seen(self.watching.join().expect("watching does not panic"))
    }
}

impl Seen {
    /// The longest time, ms, without a move: of each partition alone, and of all together.
    pub fn longest_pauses_ms(&self, from_ms: i64, to_ms: i64) -> (BTreeMap<u32, i64>, i64) {
        let of = |wanted: Option<u32>| {
            let times = self.0.iter().filter(|(_, number)| wanted.is_none_or(|wanted| wanted == *number));
            let times = times.map(|(at_ms, _)| *at_ms).filter(|at_ms| (from_ms..to_ms).contains(at_ms));
            let times: Vec<i64> = std::iter::once(from_ms).chain(times).chain([to_ms]).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
        };
        ((0..PARTITIONS).map(|number| (number, of(Some(number)))).collect(), of(None))
    }
}
