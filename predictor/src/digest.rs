//! Digests: what each partition knows of its segments at a window's end, told to all instances.
//!
//! A partition's blocks are in order, and the newest [`KEPT`] of them stay in the compacted topic. A block is at once
//! the network's view of the partition and the partition's own record of a frame that waits for the others, so a
//! restart finds there what it was about to forecast.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bytes::{Reader, Writer};
use crate::forecast::features::Network;
use crate::forecast::snapshot::Snapshot;

/// Blocks kept of each partition: a partition is at most [`AHEAD`] frames ahead of its own forecasts, so at most
/// twice as many ahead of another's, and learning looks a further hour back.
pub const KEPT: usize = 128;

/// Windows a partition may take in before their frames have closed.
pub const AHEAD: i64 = 24;

/// What a partition knows at a window's end; segments in the order of their ids.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    pub partition: u32,
    /// The window's end, in windows since the epoch.
    pub step: i64,
    pub segments: Vec<(Box<str>, Snapshot)>,
}

impl Block {
    /// Key in the compacted topic: a partition's block number n takes the place of the one [`KEPT`] before.
    #[must_use]
    pub fn key(&self, number: i64) -> [u8; 8] {
        let slot = u32::try_from(number.rem_euclid(KEPT as i64)).expect("a remainder");
        let mut key = [0; 8];
        key[..4].copy_from_slice(&self.partition.to_be_bytes());
        key[4..].copy_from_slice(&slot.to_be_bytes());
        key
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        let mut out = Writer::new(into);
        out.u32(self.partition);
        out.i64(self.step);
        out.u32(u32::try_from(self.segments.len()).unwrap_or(u32::MAX));
        for (id, s) in &self.segments {
            out.text(id);
            out.bytes(&[s.age, u8::from(s.profiled), u8::try_from(s.base_ahead.len()).unwrap_or(u8::MAX)]);
            let means = [s.mean_1h, s.mean_4h, s.range_1h, s.top_4h, s.mean_24h, s.mean_7d, s.base_now];
            let speeds = [s.measured, s.filled].into_iter().chain(s.lags).chain(means);
            speeds.chain(s.base_ahead.iter().copied()).for_each(|speed| out.f32(speed));
        }
    }

    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(bytes)?;
        let (partition, step, count) = (fields.u32()?, fields.i64()?, fields.u32()?);
        let mut segments = Vec::new();
        for _ in 0..count {
            let id: Box<str> = fields.text()?.into();
            let (age, profiled, horizons) = (fields.u8()?, fields.u8()? != 0, fields.u8()?);
            let mut speed = || fields.f32();
            let snapshot = Snapshot {
                age,
                profiled,
                measured: speed()?,
                filled: speed()?,
                lags: [speed()?, speed()?, speed()?, speed()?],
                mean_1h: speed()?,
                mean_4h: speed()?,
                range_1h: speed()?,
                top_4h: speed()?,
                mean_24h: speed()?,
                mean_7d: speed()?,
                base_now: speed()?,
                base_ahead: (0..horizons).map(|_| speed()).collect::<Option<_>>()?,
            };
            segments.push((id, snapshot));
        }
        Some(Self { partition, step, segments })
    }

    /// Sum and number of the segments' deviations from what is usual.
    fn deviations(&self) -> (f64, f64) {
        self.segments
            .iter()
            .fold((0.0, 0.0), |(sum, count), (_, s)| (sum + f64::from(s.filled) - f64::from(s.base_now), count + 1.0))
    }
}

/// A block, with what the network needs of it.
#[derive(Debug)]
struct Told {
    block: Arc<Block>,
    deviations: (f64, f64),
}

/// The newest blocks of all partitions.
#[derive(Debug, Default)]
pub struct Digests {
    of: Vec<BTreeMap<i64, Told>>,
}

impl Digests {
    /// `partitions`: of the input topics.
    pub fn expect(&mut self, partitions: u32) {
        self.of.resize_with(partitions as usize, BTreeMap::new);
    }

    /// Takes a block in; one that was told before changes nothing.
    pub fn tell(&mut self, block: Block) {
        let Some(of) = self.of.get_mut(block.partition as usize) else { return };
        if of.last_key_value().is_some_and(|(newest, _)| *newest >= block.step) {
            return;
        }
        let deviations = block.deviations();
        of.insert(block.step, Told { block: Arc::new(block), deviations });
        if of.len() > KEPT {
            of.pop_first();
        }
    }

    #[must_use]
    pub fn block(&self, partition: u32, step: i64) -> Option<&Arc<Block>> {
        Some(&self.of.get(partition as usize)?.get(&step)?.block)
    }

    /// The newest window that the partition has told of.
    #[must_use]
    pub fn newest(&self, partition: u32) -> Option<i64> {
        Some(*self.of.get(partition as usize)?.last_key_value()?.0)
    }

    /// Whether every partition has told of this window, or of a later one.
    #[must_use]
    pub fn is_complete(&self, step: i64) -> bool {
        self.of.iter().all(|of| of.last_key_value().is_some_and(|(newest, _)| *newest >= step))
    }

    /// The network's deviation at a window's end, as far as it was told.
    #[must_use]
    pub fn network(&self, step: i64) -> Network {
        let deviation = self.deviation(step);
        let before = self.deviation(step - 3);
        #[expect(clippy::cast_possible_truncation, reason = "a speed")]
        let change = deviation.zip(before).map_or(0.0, |(now, before)| (now - before) as f32);
        #[expect(clippy::cast_possible_truncation, reason = "a speed")]
        Network { deviation: deviation.unwrap_or(0.0) as f32, change }
    }

    fn deviation(&self, step: i64) -> Option<f64> {
        let told = self.of.iter().filter_map(|of| of.get(&step)).map(|told| told.deviations);
        let (sum, count) = told.fold((0.0, 0.0), |(sum, count), (s, c)| (sum + s, count + c));
        (count > 0.0).then(|| sum / count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(partition: u32, step: i64, speeds: &[f32]) -> Block {
        let segments = speeds.iter().enumerate().map(|(i, speed)| {
            let snapshot = Snapshot {
                measured: *speed,
                filled: *speed,
                age: 0,
                lags: [1.0, 2.0, 3.0, 4.0],
                mean_1h: 50.0,
                mean_4h: 51.0,
                range_1h: 20.0,
                top_4h: 80.0,
                mean_24h: 52.0,
                mean_7d: 53.0,
                base_now: 60.0,
                base_ahead: vec![61.0, 62.0],
                profiled: i == 0,
            };
            (format!("S{i}").into(), snapshot)
        });
        Block { partition, step, segments: segments.collect() }
    }

    #[test]
    fn blocks_are_read_back_and_small() {
        let (block, mut bytes) = (block(3, 5_000_000, &[40.5, 80.25]), Vec::new());
        block.encode(&mut bytes);
        assert_eq!(Block::decode(&bytes), Some(block));
        assert!(bytes.len() / 2 <= 100, "{}", bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(Block::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn a_window_is_complete_when_every_partition_is_there_or_beyond() {
        let mut digests = Digests::default();
        digests.expect(2);
        digests.tell(block(0, 10, &[50.0]));
        assert!(!digests.is_complete(10));
        digests.tell(block(1, 12, &[70.0, 90.0]));
        assert!(digests.is_complete(10) && !digests.is_complete(11));
        assert_eq!(digests.network(10), Network { deviation: -10.0, change: 0.0 });
        digests.tell(block(0, 13, &[50.0]));
        digests.tell(block(1, 13, &[70.0, 90.0]));
        assert_eq!(digests.network(13), Network { deviation: 10.0, change: 20.0 });
        // Told again, it changes nothing.
        digests.tell(block(0, 10, &[1.0]));
        assert_eq!(digests.network(10).deviation, -10.0);
        let kept = i64::try_from(KEPT).expect("small");
        (14..12 + kept).for_each(|step| digests.tell(block(0, step, &[50.0])));
        assert!(digests.block(0, 10).is_some());
        digests.tell(block(0, 5_000, &[50.0]));
        assert!(digests.block(0, 10).is_none() && digests.block(0, 13).is_some());
    }
}
