//! A worker's logic as a pure, synchronous state machine.

use std::ops::Range;

use super::log::{Record, Records};

/// What the runner tells a machine about a partition's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Wall clock, epoch ms.
    pub now_ms: i64,
    /// For how long, without interruption, the log has confirmed that we stand at the end of this partition of
    /// the first input, ms; `None` while we do not. The other inputs a machine feeds itself: they tell nothing
    /// about silence.
    pub at_end_for_ms: Option<i64>,
}

/// A worker's logic: no I/O, no clock, no randomness; time comes in as an argument.
///
/// A machine keeps state per partition number; partition *p* of all its inputs shares it. Between two
/// commits it may answer with records and state entries through the [`Outbox`]; the runner commits them
/// and the input offsets as one transaction.
pub trait Machine: Send {
    /// Partition `partition` is ours; `partitions` is the inputs' number of partitions.
    fn assign(&mut self, partition: u32, partitions: u32);

    /// A state entry read back from the changelog, oldest first; `None` deletes the key.
    fn restore(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>);

    /// Records of one partition in offset order.
    fn records(&mut self, records: &Records<'_>, now_ms: i64, out: &mut Outbox);

    /// Time has passed.
    fn tick(&mut self, partition: u32, tick: Tick, out: &mut Outbox);

    /// A commit is about to happen: put what changed since the last one.
    fn flush(&mut self, partition: u32, now_ms: i64, out: &mut Outbox);

    /// Forget the partition's state.
    fn release(&mut self, partition: u32);

    /// A record of the topic that every instance reads as a whole ([`Topology::tail`](super::Topology::tail)),
    /// oldest first; after a lost session all of them come again.
    fn tailed(&mut self, _record: &Record<'_>, _now_ms: i64, _out: &mut Outbox) {}

    /// Whether the partition takes more records just now; its inputs are paused while it does not.
    fn takes_more(&self, _partition: u32) -> bool {
        true
    }

    /// Whether nothing more is to be expected once everything was read: nothing waits for the tail.
    fn is_settled(&self) -> bool {
        true
    }
}

/// What a machine wants written, in order. Reused: it allocates only while it grows.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    headers: Vec<(&'static str, Range<usize>)>,
    items: Vec<Item>,
    urgent: bool,
}

#[derive(Debug)]
struct Item {
    destination: Destination,
    partition: Option<u32>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Index into the worker's output topics.
    Output(usize),
    Changelog,
}

impl Outbox {
    /// Beyond this, memory is given back rather than kept for the next commit.
    const KEPT: usize = 8 << 20;

    /// A record for output topic number `output`; without `partition`, murmur2 of the key decides.
    pub fn emit(
        &mut self,
        output: usize,
        partition: Option<u32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&'static str, &[u8])],
    ) {
        let first = self.headers.len();
        for (name, value) in headers {
            let value = self.keep(value);
            self.headers.push((name, value));
        }
        let (key, value) = (key.map(|b| self.keep(b)), value.map(|b| self.keep(b)));
        let headers = first..self.headers.len();
        self.items.push(Item { destination: Destination::Output(output), partition, key, value, headers });
    }

    /// A state entry for the changelog.
    pub fn put(&mut self, partition: u32, key: &[u8], value: &[u8]) {
        self.state(partition, key, Some(value));
    }

    /// Asks for a commit as soon as possible: somebody waits for what was emitted.
    pub fn hurry(&mut self) {
        self.urgent = true;
    }

    /// Whether a commit was asked for since this was last called.
    pub(crate) fn take_urgent(&mut self) -> bool {
        std::mem::take(&mut self.urgent)
    }

    /// Removes a state entry from the changelog.
    pub fn delete(&mut self, partition: u32, key: &[u8]) {
        self.state(partition, key, None);
    }

    fn state(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) {
        let (key, value) = (Some(self.keep(key)), value.map(|b| self.keep(b)));
        let end = self.headers.len();
        self.items.push(Item {
            destination: Destination::Changelog,
            partition: Some(partition),
            key,
            value,
            headers: end..end,
        });
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Everything in it, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.items.iter().map(|item| Entry {
            destination: item.destination,
            partition: item.partition,
            key: item.key.clone().map(|r| &self.bytes[r]),
            value: item.value.clone().map(|r| &self.bytes[r]),
            headers: self.headers[item.headers.clone()].iter().map(|(n, r)| (*n, &self.bytes[r.clone()])).collect(),
        })
    }

    /// Bytes of everything in it.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn clear(&mut self) {
        if self.bytes.capacity() > Self::KEPT {
            self.bytes = Vec::new();
            self.items = Vec::new();
        }
        self.bytes.clear();
        self.headers.clear();
        self.items.clear();
    }

    /// The records for output topic number `output`, as (partition, key, value): for tests of machines.
    #[must_use]
    pub fn emitted(&self, output: usize) -> Vec<Emitted> {
        self.iter()
            .filter(|e| e.destination == Destination::Output(output))
            .map(|e| Emitted {
                partition: e.partition,
                key: e.key.map(<[u8]>::to_vec),
                value: e.value.map(<[u8]>::to_vec),
                headers: e.headers.iter().map(|(n, v)| (*n, v.to_vec())).collect(),
            })
            .collect()
    }

    /// The state entries, as (partition, key, value): for tests of machines.
    #[must_use]
    pub fn entries(&self) -> Vec<(u32, Vec<u8>, Option<Vec<u8>>)> {
        self.iter()
            .filter(|e| e.destination == Destination::Changelog)
            .map(|e| (e.partition.unwrap_or(0), e.key.unwrap_or_default().to_vec(), e.value.map(<[u8]>::to_vec)))
            .collect()
    }
}

/// A record that a machine emitted, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    pub partition: Option<u32>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

pub(crate) struct Entry<'a> {
    pub destination: Destination,
    pub partition: Option<u32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Vec<(&'static str, &'a [u8])>,
}
