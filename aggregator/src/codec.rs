//! Changelog entries: small, binary, each with its format version in front.
//!
//! | key | value |
//! |---|---|
//! | `p` | progress and totals of the partition |
//! | `a` window start, segment | an accumulator: numbers as varints |
//! | `h` window start, block | hashes of events seen, as many as one commit brought |

use std::ops::Add;

use crate::progress::Progress;
use crate::window::{Accumulator, Sum};

const VERSION: u8 = 1;
/// Of accumulators: numbers are varints.
const VARINTS: u8 = 2;

/// What became of the events: sent = counted + duplicates + invalid + late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub counted: u64,
    pub duplicates: u64,
    pub invalid: u64,
    pub late: u64,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            counted: self.counted + other.counted,
            duplicates: self.duplicates + other.duplicates,
            invalid: self.invalid + other.invalid,
            late: self.late + other.late,
        }
    }
}

/// What a changelog key names.
#[derive(Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Progress,
    Accumulator { start_ms: i64, segment: &'a str },
    Hashes { start_ms: i64, block: u32 },
}

impl<'a> Key<'a> {
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        match key.split_first()? {
            (b'p', []) => Some(Self::Progress),
            (b'a', rest) => {
                let (start, segment) = rest.split_first_chunk::<8>()?;
                let segment = std::str::from_utf8(segment).ok()?;
                Some(Self::Accumulator { start_ms: i64::from_be_bytes(*start), segment })
            }
            (b'h', rest) => {
                let (start, block) = rest.split_first_chunk::<8>()?;
                let block = u32::from_be_bytes(block.try_into().ok()?);
                Some(Self::Hashes { start_ms: i64::from_be_bytes(*start), block })
            }
            _ => None,
        }
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        match self {
            Self::Progress => into.push(b'p'),
            Self::Accumulator { start_ms, segment } => {
                into.push(b'a');
                into.extend_from_slice(&start_ms.to_be_bytes());
                into.extend_from_slice(segment.as_bytes());
            }
            Self::Hashes { start_ms, block } => {
                into.push(b'h');
                into.extend_from_slice(&start_ms.to_be_bytes());
                into.extend_from_slice(&block.to_be_bytes());
            }
        }
    }
}

/// Reads little-endian fields one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(value: &'a [u8]) -> Option<Self> {
        match value.split_first()? {
            (&VERSION, rest) => Some(Self(rest)),
            _ => None,
        }
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn i64(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn i128(&mut self) -> Option<i128> {
        self.bytes().map(i128::from_le_bytes)
    }

    /// What [`put`] wrote.
    fn varint(&mut self) -> Option<i128> {
        let (mut number, mut shift) = (0_u128, 0);
        loop {
            let [byte] = self.bytes()?;
            number |= u128::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed());
            }
            shift += 7;
        }
    }

    fn small<T: TryFrom<i128>>(&mut self) -> Option<T> {
        T::try_from(self.varint()?).ok()
    }
}

pub fn encode_progress(progress: &Progress, totals: &Totals, into: &mut Vec<u8>) {
    into.clear();
    into.push(VERSION);
    for count in [totals.counted, totals.duplicates, totals.invalid, totals.late] {
        into.extend_from_slice(&count.to_le_bytes());
    }
    let fixed = [progress.watermark_ms, progress.newest_ms, progress.horizon_ms, progress.announced_ms];
    for time in fixed.iter().chain(&progress.frontier) {
        into.extend_from_slice(&time.to_le_bytes());
    }
}

pub fn decode_progress(value: &[u8]) -> Option<(Progress, Totals)> {
    let mut fields = Fields::of(value)?;
    let totals =
        Totals { counted: fields.u64()?, duplicates: fields.u64()?, invalid: fields.u64()?, late: fields.u64()? };
    let mut progress = Progress {
        watermark_ms: fields.i64()?,
        newest_ms: fields.i64()?,
        horizon_ms: fields.i64()?,
        announced_ms: fields.i64()?,
        frontier: Vec::new(),
    };
    while let Some(time) = fields.i64() {
        progress.frontier.push(time);
    }
    Some((progress, totals))
}

/// The totals in a changelog entry, if it is one that holds them.
#[must_use]
pub fn decode_totals(key: &[u8], value: &[u8]) -> Option<Totals> {
    match Key::decode(key)? {
        Key::Progress => decode_progress(value).map(|(_, totals)| totals),
        _ => None,
    }
}

/// How many events of a segment a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count<'a> {
    pub segment: &'a str,
    /// The window's start, epoch ms.
    pub start_ms: i64,
    pub count: u64,
}

/// The count in a changelog entry, if it is one that holds an accumulator.
#[must_use]
pub fn decode_count<'a>(key: &'a [u8], value: &[u8]) -> Option<Count<'a>> {
    match Key::decode(key)? {
        Key::Accumulator { start_ms, segment } => {
            decode_accumulator(value).map(|accumulator| Count { segment, start_ms, count: accumulator.count })
        }
        _ => None,
    }
}

pub fn encode_accumulator(accumulator: &Accumulator, into: &mut Vec<u8>) {
    into.clear();
    into.push(VARINTS);
    put(into, i128::from(accumulator.count));
    for sum in [&accumulator.speeds, &accumulator.occupancies, &accumulator.flows] {
        put(into, i128::from(sum.n));
        if sum.n > 0 {
            let (min, spread) = (i128::from(sum.min), i128::from(sum.max) - i128::from(sum.min));
            [sum.sum, sum.squares, min, spread].into_iter().for_each(|number| put(into, number));
        }
    }
    put(into, i128::from(accumulator.vehicles));
    put(into, accumulator.quality);
    if let Some((time, hash, latitude, longitude)) = accumulator.place {
        [time, latitude, longitude].into_iter().for_each(|number| put(into, i128::from(number)));
        into.extend_from_slice(&hash.to_le_bytes());
    }
}

pub fn decode_accumulator(value: &[u8]) -> Option<Accumulator> {
    match value.split_first()? {
        (&VARINTS, rest) => decode_varints(Fields(rest)),
        (&VERSION, rest) => decode_fixed(Fields(rest)),
        _ => None,
    }
}

fn decode_varints(mut fields: Fields<'_>) -> Option<Accumulator> {
    let count = fields.small()?;
    let mut sum = || {
        let n = fields.small()?;
        if n == 0 {
            return Some(Sum::default());
        }
        let (sum, squares, min) = (fields.varint()?, fields.varint()?, fields.small()?);
        Some(Sum { n, sum, squares, min, max: min + fields.small::<i64>()? })
    };
    let (speeds, occupancies, flows) = (sum()?, sum()?, sum()?);
    let (vehicles, quality) = (fields.small()?, fields.varint()?);
    let mut place = || {
        let (time, latitude, longitude) = (fields.small()?, fields.small()?, fields.small()?);
        Some((time, fields.u64()?, latitude, longitude))
    };
    let place = place();
    // What was committed was emitted too, if its window had closed.
    Some(Accumulator { count, speeds, occupancies, flows, vehicles, quality, place, emitted: count, dirty: false })
}

/// As accumulators were written before they had varints.
fn decode_fixed(mut fields: Fields<'_>) -> Option<Accumulator> {
    let count = fields.u64()?;
    let mut sum = || {
        let n = fields.u64()?;
        if n == 0 {
            return Some(Sum::default());
        }
        Some(Sum { n, sum: fields.i128()?, squares: fields.i128()?, min: fields.i64()?, max: fields.i64()? })
    };
    let (speeds, occupancies, flows) = (sum()?, sum()?, sum()?);
    let (vehicles, quality) = (fields.u64()?, fields.i128()?);
    let place = fields.i64().and_then(|time| Some((time, fields.u64()?, fields.i64()?, fields.i64()?)));
    Some(Accumulator { count, speeds, occupancies, flows, vehicles, quality, place, emitted: count, dirty: false })
}

/// A signed number in zigzag LEB128, as protocol buffers write them: 7 bits a byte, the lowest first.
#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn put(into: &mut Vec<u8>, number: i128) {
    let mut rest = ((number << 1) ^ (number >> 127)).cast_unsigned();
    // Most numbers here fit 64 bits, in which shifts are cheap.
    while rest > u128::from(u64::MAX) {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    let mut rest = rest as u64;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

pub fn encode_hashes(hashes: &[u64], into: &mut Vec<u8>) {
    into.clear();
    into.push(VERSION);
    hashes.iter().for_each(|hash| into.extend_from_slice(&hash.to_le_bytes()));
}

pub fn decode_hashes(value: &[u8]) -> Option<impl Iterator<Item = u64>> {
    let mut fields = Fields::of(value)?;
    Some(std::iter::from_fn(move || fields.u64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back() {
        for key in [
            Key::Progress,
            Key::Accumulator { start_ms: -5, segment: "SEG_1" },
            Key::Hashes { start_ms: 1_750_000_200_000, block: 7 },
        ] {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            assert_eq!(Key::decode(&bytes), Some(key));
        }
        assert_eq!(Key::decode(b"zzz"), None);
    }

    fn accumulator() -> Accumulator {
        let mut speeds = Sum::default();
        (speeds.n, speeds.sum, speeds.squares, speeds.min, speeds.max) = (2, 3, 5, 1, 2);
        Accumulator { count: 2, speeds, place: Some((1, 2, 3, 4)), emitted: 2, ..Accumulator::default() }
    }

    #[test]
    fn accumulators_come_back() {
        let mut bytes = Vec::new();
        encode_accumulator(&accumulator(), &mut bytes);
        assert_eq!(decode_accumulator(&bytes), Some(accumulator()));
        let mut key = Vec::new();
        Key::Accumulator { start_ms: 7, segment: "SEG_1" }.encode(&mut key);
        assert_eq!(decode_count(&key, &bytes), Some(Count { segment: "SEG_1", start_ms: 7, count: 2 }));
        assert_eq!(decode_count(b"p", &bytes), None);
        assert_eq!(decode_accumulator(&bytes[..8]), None, "truncated");
        bytes[0] = 9;
        assert_eq!(decode_accumulator(&bytes), None, "another format");
    }

    /// A changelog that was written before varints restores the same.
    #[test]
    fn accumulators_of_the_first_format_come_back() {
        let mut bytes = vec![1];
        bytes.extend([2_u64, 2].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([3_i128, 5].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([1_i64, 2, 0, 0, 0].iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend(0_i128.to_le_bytes());
        bytes.extend([1_i64, 2, 3, 4].iter().flat_map(|n| n.to_le_bytes()));
        assert_eq!(decode_accumulator(&bytes), Some(accumulator()));
    }

    proptest::proptest! {
        #[test]
        fn numbers_come_back(number: i128, shift in 0..127_u32) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            put(&mut bytes, number);
            let mut fields = Fields(&bytes);
            proptest::prop_assert_eq!(fields.varint(), Some(number));
            proptest::prop_assert!(fields.0.is_empty());
        }
    }
}
