//! Digests: what each partition knows of its segments at a window's end, told to all instances.
//!
//! A partition's blocks are in order, and the newest [`KEPT`] of them stay in the compacted topic. A block is at once
//! the network's view of the partition and the partition's own record of a frame that waits for the others, so a
//! restart finds there what it was about to forecast.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::bytes::{Reader, Writer};
use crate::forecast::STEP_MS;
use crate::forecast::features::Network;
use crate::forecast::series::NETWORK_CHANGE;
use crate::forecast::snapshot::{Ahead, Snapshot, fixed};

/// Blocks kept of each partition: a partition is at most [`AHEAD`] frames ahead of its own forecasts, so at most
/// twice as many ahead of another's, and learning looks a further hour back.
pub const KEPT: usize = 128;

/// Windows a partition may take in before their frames have closed.
pub const AHEAD: i64 = 24;

/// The longest horizon, in windows: that far back lie the forecasts whose truth has come.
const HOUR: i64 = 12;

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
            let horizons = u8::try_from(s.ahead.len()).unwrap_or(0);
            let flags = u8::from(s.profiled) << 7 | u8::from(!s.volumes.is_empty()) << 6;
            out.bytes(&[s.age, s.missing, flags | horizons]);
            let hour = [s.low_1h, s.high_1h, s.deviation_1h, s.deviation_20min, s.top_4h];
            let means = [s.mean_1h, s.mean_4h, s.mean_24h, s.mean_7d, s.usual_now];
            let unusual = [s.unusual_1h, s.unusual_4h, s.yesterday];
            let own = [s.filled].into_iter().chain(s.lags).chain(hour).chain(means).chain(s.unusual).chain(unusual);
            let ahead = s.ahead.iter().flat_map(|a| [a.usual, a.spread, a.halfway, a.after, a.yesterday]);
            own.chain(ahead).for_each(|speed| out.speed(speed));
            s.volumes.iter().for_each(|vehicles| out.u16(*vehicles));
        }
    }

    /// Partition and step of an encoded block.
    fn place(bytes: &[u8]) -> Option<(u32, i64)> {
        let mut fields = Reader::new(bytes)?;
        Some((fields.u32()?, fields.i64()?))
    }

    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Reader::new(bytes)?;
        let (partition, step, count) = (fields.u32()?, fields.i64()?, fields.u32()?);
        let mut segments = Vec::new();
        for _ in 0..count {
            let id: Box<str> = fields.text()?.into();
            segments.push((id, decode_snapshot(&mut fields)?));
        }
        Some(Self { partition, step, segments })
    }

    /// Sum and number of the segments' deviations from what is usual.
    fn deviations(&self) -> (f64, f64) {
        self.segments.iter().fold((0.0, 0.0), |(sum, count), (_, s)| (sum + f64::from(s.unusual[0]), count + 1.0))
    }
}

fn decode_snapshot(fields: &mut Reader<'_>) -> Option<Snapshot> {
    let (age, missing, horizons) = (fields.u8()?, fields.u8()?, fields.u8()?);
    let filled = fields.speed()?;
    let mut speed = || fields.speed();
    let lags = all(&mut speed)?;
    let [low_1h, high_1h, deviation_1h, deviation_20min, top_4h] = all(&mut speed)?;
    let [mean_1h, mean_4h, mean_24h, mean_7d, usual_now] = all(&mut speed)?;
    let unusual = all(&mut speed)?;
    let [unusual_1h, unusual_4h, yesterday] = all(&mut speed)?;
    let (flags, horizons) = (horizons & 0xc0, horizons & 0x3f);
    let mut ahead = Vec::with_capacity(usize::from(horizons));
    for _ in 0..horizons {
        let [usual, spread, halfway, after, yesterday] = all(&mut speed)?;
        ahead.push(Ahead { usual, spread, halfway, after, yesterday });
    }
    let counted = if flags & 0x40 == 0 { 0 } else { horizons };
    let volumes = (0..counted).map(|_| fields.u16()).collect::<Option<_>>()?;
    Some(Snapshot {
        measured: if age == 0 { filled } else { f32::NAN },
        filled,
        age,
        missing,
        lags,
        low_1h,
        high_1h,
        deviation_1h,
        deviation_20min,
        top_4h,
        mean_1h,
        mean_4h,
        mean_24h,
        mean_7d,
        usual_now,
        unusual,
        unusual_1h,
        unusual_4h,
        yesterday,
        ahead,
        volumes,
        profiled: flags & 0x80 != 0,
    })
}

fn all<const N: usize>(next: &mut dyn FnMut() -> Option<f32>) -> Option<[f32; N]> {
    let mut speeds = [0.0; N];
    for speed in &mut speeds {
        *speed = next()?;
    }
    Some(speeds)
}

/// A block as it came, and as it reads while somebody needs it: that takes three times as much.
#[derive(Debug)]
struct Told {
    bytes: Box<[u8]>,
    read: OnceLock<Option<Arc<Block>>>,
}

impl Told {
    fn block(&self) -> Option<&Arc<Block>> {
        let read = || {
            let block = Block::decode(&self.bytes).map(Arc::new);
            if let (None, Some((partition, step))) = (&block, Block::place(&self.bytes)) {
                metrics::counter!("traffic_digests_refused_total").increment(1);
                tracing::error!(
                    partition,
                    step,
                    "predictor-digest: what partition {partition} tells of the window that ends at {} s is cut off: its segments \
                     get no forecast there. Something else than the predictor has written to the topic",
                    step.saturating_mul(STEP_MS) / 1_000
                );
            }
            block
        };
        self.read.get_or_init(read).as_ref()
    }
}

/// The newest blocks of all partitions.
#[derive(Debug, Default)]
pub struct Digests {
    of: Vec<BTreeMap<i64, Told>>,
    /// Blocks before this step are not held as they read.
    done: i64,
}

impl Digests {
    /// `partitions`: of the input topics.
    pub fn expect(&mut self, partitions: u32) {
        self.of.resize_with(partitions as usize, BTreeMap::new);
    }

    /// Takes an encoded block in; one that was told before changes nothing, nor does what is none.
    pub fn tell(&mut self, bytes: &[u8]) {
        let Some((partition, step)) = Block::place(bytes) else { return };
        let Some(of) = self.of.get_mut(partition as usize) else { return };
        if of.last_key_value().is_some_and(|(newest, _)| *newest >= step) {
            return;
        }
        of.insert(step, Told { bytes: bytes.into(), read: OnceLock::new() });
        if of.len() > KEPT {
            of.pop_first();
        }
    }

    /// All frames before `step` have closed: later ones look back an hour.
    pub fn close(&mut self, step: i64) {
        let done = step - HOUR;
        for of in &mut self.of {
            of.range_mut(self.done.min(done)..done).for_each(|(_, told)| drop(told.read.take()));
        }
        self.done = done;
    }

    #[must_use]
    pub fn block(&self, partition: u32, step: i64) -> Option<&Arc<Block>> {
        self.of.get(partition as usize)?.get(&step)?.block()
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

    /// How the network deviates from what is usual at a window's end, as far as it was told.
    #[must_use]
    pub fn network(&self, step: i64) -> Network {
        let now = self.unusual(step).unwrap_or(0.0);
        let before = self.unusual(step - NETWORK_CHANGE as i64);
        Network { unusual: now, change: before.map_or(0.0, |before| now - before) }
    }

    fn unusual(&self, step: i64) -> Option<f32> {
        let deviations = self.blocks(step).map(|block| block.deviations());
        let (sum, count) = deviations.fold((0.0, 0.0), |(sum, count), (s, c)| (sum + s, count + c));
        (count > 0.0).then(|| fixed(sum / count))
    }

    fn blocks(&self, step: i64) -> impl Iterator<Item = &Arc<Block>> {
        self.of.iter().filter_map(move |of| of.get(&step)?.block())
    }

    /// All segments that were told of at a window's end.
    pub fn segments(&self, step: i64) -> impl Iterator<Item = &(Box<str>, Snapshot)> {
        self.blocks(step).flat_map(|block| &block.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(partition: u32, step: i64, speeds: &[f32]) -> Block {
        let segments = speeds.iter().enumerate().map(|(i, speed)| {
            let ahead = |usual| Ahead { usual, spread: 2.0, halfway: 60.5, after: 61.5, yesterday: f32::NAN };
            let snapshot = Snapshot {
                measured: *speed,
                filled: *speed,
                age: 0,
                missing: 3,
                lags: [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
                low_1h: 30.0,
                high_1h: 50.0,
                deviation_1h: 4.5,
                deviation_20min: 2.25,
                top_4h: 80.0,
                mean_1h: 50.0,
                mean_4h: 51.0,
                mean_24h: 52.0,
                mean_7d: 53.0,
                usual_now: 60.0,
                unusual: [*speed - 60.0, 1.0, -2.0, 3.0, -4.0, 5.0],
                unusual_1h: 0.5,
                unusual_4h: -0.5,
                yesterday: 58.0,
                ahead: vec![ahead(61.0), ahead(62.0), ahead(63.0)],
                volumes: if i == 0 { vec![1, 500, 65_534] } else { Vec::new() },
                profiled: i == 0,
            };
            (format!("S{i}").into(), snapshot)
        });
        Block { partition, step, segments: segments.collect() }
    }

    fn tell(digests: &mut Digests, block: Block) {
        let mut bytes = Vec::new();
        block.encode(&mut bytes);
        digests.tell(&bytes);
    }

    #[test]
    fn blocks_are_read_back_and_small() {
        let (block, mut bytes) = (block(3, 5_000_000, &[40.5, 80.25]), Vec::new());
        block.encode(&mut bytes);
        assert_eq!(format!("{:?}", Block::decode(&bytes)), format!("{:?}", Some(block)));
        // And two bytes for each volume.
        assert!(bytes.len() <= 2 * 100 + 3 * 2, "{}", bytes.len());
        for cut in 0..bytes.len() {
            assert_eq!(Block::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn a_window_is_complete_when_every_partition_is_there_or_beyond() {
        let mut digests = Digests::default();
        digests.expect(2);
        tell(&mut digests, block(0, 10, &[50.0]));
        assert!(!digests.is_complete(10));
        tell(&mut digests, block(1, 12, &[70.0, 90.0]));
        assert!(digests.is_complete(10) && !digests.is_complete(11));
        assert_eq!(digests.network(10), Network { unusual: -10.0, change: 0.0 });
        tell(&mut digests, block(0, 16, &[70.0]));
        tell(&mut digests, block(1, 16, &[70.0, 90.0]));
        assert_eq!(digests.network(16), Network { unusual: fixed(50.0 / 3.0), change: fixed(50.0 / 3.0) + 10.0 });
        // Told again, it changes nothing.
        tell(&mut digests, block(0, 10, &[1.0]));
        assert_eq!(digests.network(10).unusual, -10.0);
        let kept = i64::try_from(KEPT).expect("small");
        (17..15 + kept).for_each(|step| tell(&mut digests, block(0, step, &[50.0])));
        assert!(digests.block(0, 10).is_some());
        tell(&mut digests, block(0, 5_000, &[50.0]));
        assert!(digests.block(0, 10).is_none() && digests.block(0, 16).is_some());
    }
}
