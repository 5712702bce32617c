//! What a partition has read and not taken in yet, because its frames wait for other partitions. Records are taken in
//! in their order, each marker wholly before what follows it; what still waits at a commit is state.

use std::collections::BTreeMap;

use common::model::{Aggregate, Position};

use crate::bytes::{Reader, Writer};
use crate::forecast::STEP_MS;
use crate::forecast::snapshot::fixed;
use crate::forecast::volume::counted;

/// What a record of the aggregates' topic says.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A window's speed, [`fixed`] km/h, its vehicles, and where the segment is.
    Aggregate { segment: Box<str>, step: i64, speed: f32, vehicles: u16, position: Option<(f64, f64)> },
    /// Complete up to this window end, in windows since the epoch.
    Marker(i64),
}

impl Input {
    /// `None` for a window in which no speed was measured.
    #[must_use]
    pub fn of(aggregate: &Aggregate<'_>) -> Option<Self> {
        let speed = fixed(aggregate.avg_speed?);
        let position = aggregate.coordinates.map(|Position { latitude, longitude }| (latitude, longitude));
        let step = aggregate.window_end.div_euclid(STEP_MS);
        let vehicles = counted(aggregate.vehicle_count);
        Some(Self::Aggregate { segment: (&*aggregate.segment_id).into(), step, speed, vehicles, position })
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let mut out = Writer::new(into);
        match self {
            Self::Marker(step) => out.i64(*step),
            Self::Aggregate { segment, step, speed, vehicles, position } => {
                out.i64(*step);
                out.f32(*speed);
                out.u16(*vehicles);
                let (latitude, longitude) = position.unwrap_or((f64::NAN, f64::NAN));
                out.f64(latitude);
                out.f64(longitude);
                out.text(segment);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(bytes)?;
        let step = fields.i64()?;
        let Some(speed) = fields.f32() else { return Some(Self::Marker(step)) };
        let (vehicles, position) = (fields.u16()?, (fields.f64()?, fields.f64()?));
        let position = (!position.0.is_nan()).then_some(position);
        Some(Self::Aggregate { segment: fields.text()?.into(), step, speed, vehicles, position })
    }
}

/// Inputs by their place in line.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: BTreeMap<u64, Input>,
    /// The place that comes next, and the one that was given last plus one.
    head: u64,
    tail: u64,
    /// Places that the changelog holds: from, to.
    kept: (u64, u64),
}

impl Queue {
    pub fn push(&mut self, input: Input) {
        self.waiting.insert(self.tail, input);
        self.tail += 1;
    }

    pub fn pop(&mut self) -> Option<Input> {
        let (place, input) = self.waiting.pop_first()?;
        self.head = place + 1;
        Some(input)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Brings the changelog up to date: puts what waits and is not there, deletes what waits no more.
    pub fn flush(&mut self, bytes: &mut Vec<u8>, put: &mut dyn FnMut(u64, Option<&[u8]>)) {
        let (from, to) = self.kept;
        (from..to.min(self.head)).for_each(|place| put(place, None));
        for (place, input) in self.waiting.range(to..) {
            input.encode(bytes);
            put(*place, Some(bytes));
        }
        self.kept = (self.head.max(from), self.tail);
    }

    /// Puts an entry of the changelog back.
    pub fn restore(&mut self, place: u64, value: Option<&[u8]>) {
        match value.and_then(Input::decode) {
            Some(input) => drop(self.waiting.insert(place, input)),
            None => drop(self.waiting.remove(&place)),
        }
        self.tail = self.tail.max(place + 1);
        self.head = self.waiting.first_key_value().map_or(self.tail, |(first, _)| *first);
        self.kept = (self.head, self.tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(step: i64) -> Input {
        Input::Aggregate { segment: "S1".into(), step, speed: 50.5, vehicles: 9, position: Some((34.0, -118.0)) }
    }

    #[test]
    fn what_waits_at_a_commit_is_there_after_it() {
        let mut queue = Queue::default();
        let mut kept: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let commit = |queue: &mut Queue, kept: &mut BTreeMap<u64, Vec<u8>>| {
            queue.flush(&mut Vec::new(), &mut |place, value| match value {
                Some(value) => drop(kept.insert(place, value.to_vec())),
                None => assert!(kept.remove(&place).is_some(), "{place} was never there"),
            });
        };
        queue.push(input(1));
        queue.pop();
        commit(&mut queue, &mut kept);
        assert!(kept.is_empty());
        (2..6).for_each(|step| queue.push(input(step)));
        queue.push(Input::Marker(6));
        commit(&mut queue, &mut kept);
        assert_eq!(kept.len(), 5);
        assert_eq!(queue.pop(), Some(input(2)));
        commit(&mut queue, &mut kept);
        let mut back = Queue::default();
        kept.iter().for_each(|(place, value)| back.restore(*place, Some(value)));
        back.push(input(7));
        let rest: Vec<Input> = std::iter::from_fn(|| back.pop()).collect();
        assert_eq!(rest, [input(3), input(4), input(5), Input::Marker(6), input(7)]);
        commit(&mut back, &mut kept);
        assert!(kept.is_empty());
    }
}
