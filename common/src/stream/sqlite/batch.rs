//! The bytes of a stored batch: records of one partition, in offset order.
//!
//! ```text
//! format (1 byte) | record … | xxh3 of all before (8 bytes, little endian)
//! record: skipped, timestamp, key, value, headers
//! ```
//! All numbers are LEB128. `skipped` counts the offsets left out since the record before (0 unless
//! compaction removed some); the timestamp is a zigzag difference to the record before; a key or value is
//! its length + 1 and its bytes, or 0 for null; headers are their number, then name and value each. The
//! batch's first offset is its row's, so that the bytes can be made before offsets are given out.

use twox_hash::XxHash3_64;

use crate::stream::log::{Header, StoredRecord};

const FORMAT: u8 = 1;
const CHECKSUM: usize = 8;

/// A batch being filled.
#[derive(Debug)]
pub(super) struct BatchWriter {
    bytes: Vec<u8>,
    records: i64,
    /// From the first record's offset to one past the last's.
    span: i64,
    last_timestamp_ms: i64,
    newest_timestamp_ms: i64,
}

/// A finished batch.
#[derive(Debug)]
pub(super) struct EncodedBatch {
    pub bytes: Vec<u8>,
    pub records: i64,
    /// From the first record's offset to one past the last's.
    pub span: i64,
    pub newest_timestamp_ms: i64,
}

/// What is stored in a record; its offset follows from its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl BatchWriter {
    pub fn new() -> Self {
        Self { bytes: vec![FORMAT], records: 0, span: 0, last_timestamp_ms: 0, newest_timestamp_ms: i64::MIN }
    }

    pub fn records(&self) -> i64 {
        self.records
    }

    /// Bytes so far.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a record that follows the last one after `skipped` offsets (0 for the first).
    pub fn push<'h>(
        &mut self,
        skipped: i64,
        content: Content<'_>,
        headers: impl ExactSizeIterator<Item = (&'h str, &'h [u8])>,
    ) {
        put_number(&mut self.bytes, skipped.cast_unsigned());
        let step = content.timestamp_ms.wrapping_sub(self.last_timestamp_ms);
        put_number(&mut self.bytes, ((step << 1) ^ (step >> 63)).cast_unsigned());
        put_nullable(&mut self.bytes, content.key);
        put_nullable(&mut self.bytes, content.value);
        put_number(&mut self.bytes, headers.len() as u64);
        for (name, value) in headers {
            put_bytes(&mut self.bytes, name.as_bytes());
            put_bytes(&mut self.bytes, value);
        }
        self.records += 1;
        self.span += skipped + 1;
        self.last_timestamp_ms = content.timestamp_ms;
        self.newest_timestamp_ms = self.newest_timestamp_ms.max(content.timestamp_ms);
    }

    pub fn finish(mut self) -> EncodedBatch {
        let checksum = XxHash3_64::oneshot(&self.bytes);
        self.bytes.extend_from_slice(&checksum.to_le_bytes());
        EncodedBatch {
            bytes: self.bytes,
            records: self.records,
            span: self.span,
            newest_timestamp_ms: self.newest_timestamp_ms,
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_bytes(bytes: &mut Vec<u8>, part: &[u8]) {
    put_number(bytes, part.len() as u64);
    bytes.extend_from_slice(part);
}

fn put_nullable(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => bytes.push(0),
        Some(part) => {
            put_number(bytes, part.len() as u64 + 1);
            bytes.extend_from_slice(part);
        }
    }
}

/// Decoded records, in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct RecordBuffer {
    slots: Vec<StoredRecord>,
    used: usize,
    bytes: usize,
}

impl RecordBuffer {
    /// Beyond this, memory is given back rather than kept for the next batch.
    const KEPT: usize = 8 << 20;

    pub fn records(&self) -> &[StoredRecord] {
        &self.slots[..self.used]
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub fn clear(&mut self) {
        if self.bytes > Self::KEPT {
            self.slots = Vec::new();
        }
        self.used = 0;
        self.bytes = 0;
    }

    /// Appends the records of `data`, whose first offset is `base`, from offset `from` on. Returns one
    /// past the last offset.
    pub fn decode(&mut self, data: &[u8], base: i64, from: i64) -> Result<i64, Damage> {
        let mut rest = checked(data)?;
        let (mut next, mut timestamp_ms) = (base, 0_i64);
        while !rest.is_empty() {
            let offset = next.checked_add_unsigned(number(&mut rest)?).ok_or(Damage("an offset is out of range"))?;
            next = offset.checked_add(1).ok_or(Damage("an offset is out of range"))?;
            let step = number(&mut rest)?;
            timestamp_ms = timestamp_ms.wrapping_add((step >> 1).cast_signed() ^ -(step & 1).cast_signed());
            let key = nullable(&mut rest)?;
            let value = nullable(&mut rest)?;
            let headers = number(&mut rest)?;
            if offset < from {
                for _ in 0..headers {
                    header(&mut rest)?;
                }
                continue;
            }
            let slot = self.slot();
            slot.offset = offset;
            slot.timestamp_ms = timestamp_ms;
            refill(&mut slot.key, key);
            refill(&mut slot.value, value);
            slot.headers.clear();
            for _ in 0..headers {
                let (name, value) = header(&mut rest)?;
                slot.headers.push(Header { name: name.to_owned(), value: value.to_vec() });
            }
        }
        self.bytes += data.len();
        Ok(next)
    }

    fn slot(&mut self) -> &mut StoredRecord {
        if self.used == self.slots.len() {
            self.slots.push(StoredRecord::default());
        }
        self.used += 1;
        &mut self.slots[self.used - 1]
    }
}

/// Why bytes are no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub &'static str);

const CUT_OFF: Damage = Damage("it is cut off");

/// The records' bytes, once format and checksum are right.
fn checked(data: &[u8]) -> Result<&[u8], Damage> {
    let (body, checksum) = data.split_last_chunk::<CHECKSUM>().ok_or(CUT_OFF)?;
    let (format, records) = body.split_first().ok_or(CUT_OFF)?;
    if XxHash3_64::oneshot(body) != u64::from_le_bytes(*checksum) {
        return Err(Damage("its checksum does not match"));
    }
    if *format != FORMAT {
        return Err(Damage("its format is unknown; a newer version wrote it"));
    }
    Ok(records)
}

fn number(rest: &mut &[u8]) -> Result<u64, Damage> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first().ok_or(CUT_OFF)?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Damage("a number in it is too long"))
}

fn take<'d>(rest: &mut &'d [u8], length: u64) -> Result<&'d [u8], Damage> {
    let length = usize::try_from(length).map_err(|_| CUT_OFF)?;
    let (part, tail) = rest.split_at_checked(length).ok_or(CUT_OFF)?;
    *rest = tail;
    Ok(part)
}

fn nullable<'d>(rest: &mut &'d [u8]) -> Result<Option<&'d [u8]>, Damage> {
    match number(rest)? {
        0 => Ok(None),
        length => take(rest, length - 1).map(Some),
    }
}

fn header<'d>(rest: &mut &'d [u8]) -> Result<(&'d str, &'d [u8]), Damage> {
    let length = number(rest)?;
    let name = std::str::from_utf8(take(rest, length)?).map_err(|_| Damage("a header's name is not UTF-8"))?;
    let length = number(rest)?;
    Ok((name, take(rest, length)?))
}

fn refill(slot: &mut Option<Vec<u8>>, bytes: Option<&[u8]>) {
    match (slot.as_mut(), bytes) {
        (Some(kept), Some(bytes)) => {
            kept.clear();
            kept.extend_from_slice(bytes);
        }
        (_, bytes) => *slot = bytes.map(<[u8]>::to_vec),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn encode(records: &[StoredRecord]) -> EncodedBatch {
        let mut writer = BatchWriter::new();
        let mut next = records[0].offset;
        for record in records {
            let content = Content {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
            };
            let headers = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice()));
            writer.push(record.offset - next, content, headers);
            next = record.offset + 1;
        }
        writer.finish()
    }

    fn records() -> impl Strategy<Value = Vec<StoredRecord>> {
        let bytes = || vec(any::<u8>(), 0..40);
        let header = ("[a-z]{0,9}", bytes()).prop_map(|(name, value)| Header { name, value });
        let record = (0..3_i64, any::<i64>(), prop::option::of(bytes()), prop::option::of(bytes()), vec(header, 0..3));
        (0..1_i64 << 43, vec(record, 1..30)).prop_map(|(base, parts)| {
            let mut next = base;
            let mut first = true;
            let to_record = |(skipped, timestamp_ms, key, value, headers)| {
                let offset = if std::mem::take(&mut first) { base } else { next + skipped };
                next = offset + 1;
                StoredRecord { offset, timestamp_ms, key, value, headers }
            };
            parts.into_iter().map(to_record).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in records(), skip in 0..30_usize) {
            let batch = encode(&records);
            let base = records[0].offset;
            let last = records.last().expect("never empty").offset;
            prop_assert_eq!(batch.span, last + 1 - base);
            let mut buffer = RecordBuffer::default();
            prop_assert_eq!(buffer.decode(&batch.bytes, base, base).expect("sound"), last + 1);
            prop_assert_eq!(buffer.records(), &records[..]);
            // Used again, from the middle: nothing of the last time is left.
            let skip = skip % records.len();
            buffer.clear();
            buffer.decode(&batch.bytes, base, records[skip].offset).expect("sound");
            prop_assert_eq!(buffer.records(), &records[skip..]);
        }

        #[test]
        fn garbage_is_an_error(bytes in vec(any::<u8>(), 0..60)) {
            prop_assert!(RecordBuffer::default().decode(&bytes, 0, 0).is_err());
        }

        /// Even with a right checksum, no bytes make the decoder panic.
        #[test]
        fn sealed_garbage_never_panics(mut bytes in vec(any::<u8>(), 0..60)) {
            bytes.insert(0, FORMAT);
            let checksum = XxHash3_64::oneshot(&bytes).to_le_bytes();
            bytes.extend_from_slice(&checksum);
            let _ = RecordBuffer::default().decode(&bytes, i64::MAX - 3, 0);
        }

        #[test]
        fn every_changed_byte_is_noticed(records in records(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode(&records).bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(RecordBuffer::default().decode(&bytes, 0, 0).is_err());
        }
    }
}
