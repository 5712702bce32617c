//! The state of one partition, and what happens to a record.

use std::collections::{BTreeMap, HashMap};

use common::clock::has_passed;
use common::model::{Event, Invalid};
use common::stream::partitioner::partition_of;
use common::stream::{Outbox, Record, Tick, WATERMARK_HEADER};

use crate::Settings;
use crate::codec::{self, Key, Totals};
use crate::machine::{AGGREGATES, DEAD_LETTERS, REKEYED};
use crate::progress::{Progress, UNCONSTRAINED};
use crate::window::{Window, hash_of, identity};

/// Header of an announcement: whose watermark it is.
const PARTITION_HEADER: &str = "partition";
/// Announcements are at least this far apart, in event time and in wall time.
const ANNOUNCE_EVERY_MS: i64 = 60_000;
const ANNOUNCE_PAUSE_MS: i64 = 1_000;

pub struct Partition {
    number: u32,
    partitions: u32,
    progress: Progress,
    totals: Totals,
    changed: bool,
    /// Wall time of the last announcement; not state.
    announced_at_ms: i64,
    numbers: HashMap<Box<str>, u32>,
    segments: Vec<Segment>,
    windows: BTreeMap<i64, Window>,
    /// Event time of the last look for segments to forget.
    swept_ms: i64,
    key: Vec<u8>,
    value: Vec<u8>,
}

struct Segment {
    id: Box<str>,
    /// The partition its key belongs to.
    owner: u32,
    hash: u64,
    heard_ms: i64,
}

/// Where a record came from, for its dead letter.
struct Origin<'a> {
    topic: &'a [u8],
    partition: u32,
    offset: i64,
}

enum Refusal {
    Invalid(Invalid),
    Late,
}

impl Partition {
    pub fn new(number: u32, partitions: u32) -> Self {
        Self {
            number,
            partitions,
            progress: Progress::new(partitions),
            totals: Totals::default(),
            changed: false,
            announced_at_ms: i64::MIN,
            numbers: HashMap::new(),
            segments: Vec::new(),
            windows: BTreeMap::new(),
            swept_ms: i64::MIN,
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn watermark_ms(&self) -> Option<i64> {
        (self.progress.watermark_ms > i64::MIN).then_some(self.progress.watermark_ms)
    }

    /// Windows, and hashes in them.
    pub fn held(&self) -> (usize, usize) {
        (self.windows.len(), self.windows.values().map(|w| w.seen.len()).sum())
    }

    pub fn restore(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (Key::decode(key), value) {
            (Some(Key::Progress), Some(value)) => {
                if let Some((progress, totals)) = codec::decode_progress(value) {
                    (self.progress, self.totals) = (progress, totals);
                }
            }
            (Some(Key::Accumulator { start_ms, segment }), Some(value)) => {
                let number = self.intern(segment);
                self.segments[number as usize].heard_ms = start_ms;
                if let Some(accumulator) = codec::decode_accumulator(value) {
                    self.windows.entry(start_ms).or_default().restore(number, accumulator);
                }
            }
            (Some(Key::Hashes { start_ms, block }), Some(value)) => {
                let window = self.windows.entry(start_ms).or_default();
                window.blocks = window.blocks.max(block + 1);
                window.seen.extend(codec::decode_hashes(value).into_iter().flatten());
            }
            // A window is dropped as a whole.
            (Some(Key::Accumulator { start_ms, .. } | Key::Hashes { start_ms, .. }), None) => {
                self.windows.remove(&start_ms);
            }
            (Some(Key::Progress), None) | (None, _) => {}
        }
    }

    /// A record of the topic of events.
    pub fn event(&mut self, record: &Record<'_>, now_ms: i64, settings: &Settings, out: &mut Outbox) {
        if let Some(marker_ms) = record.watermark_ms() {
            self.heard(marker_ms);
            self.advance(marker_ms, now_ms, settings, out);
            return;
        }
        let origin = Origin { topic: settings.events_topic.as_bytes(), partition: self.number, offset: record.offset };
        match self.read(record, settings) {
            Err(invalid) => self.refuse(record, &origin, &Refusal::Invalid(invalid), out),
            Ok((event, segment)) => {
                let owner = self.segments[segment as usize].owner;
                if owner == self.number {
                    let watermark_ms = self.progress.watermark_ms;
                    self.take(record, &origin, &event, segment, watermark_ms, settings.lateness_ms, settings, out);
                } else {
                    forward(record, &origin, &event, owner, out);
                }
                self.heard(event.timestamp_ms);
                self.advance(event.timestamp_ms - settings.out_of_orderness_ms, now_ms, settings, out);
            }
        }
    }

    /// A record that another partition forwarded, or its announcement.
    pub fn rekeyed(&mut self, record: &Record<'_>, settings: &Settings, out: &mut Outbox) {
        if let Some(watermark_ms) = record.watermark_ms() {
            let from = record.header_number(PARTITION_HEADER).and_then(|q| usize::try_from(q).ok());
            if let Some(place) = from.and_then(|q| self.progress.frontier.get_mut(q)) {
                *place = watermark_ms;
                self.changed = true;
                self.drop_windows(settings, out);
            }
            return;
        }
        let origin = Origin {
            topic: record.header("topic").unwrap_or_default(),
            partition: record
                .header_number(PARTITION_HEADER)
                .and_then(|p| u32::try_from(p).ok())
                .unwrap_or(self.number),
            offset: record.header_number("offset").unwrap_or(record.offset),
        };
        match record.value.map(|value| settings.normaliser.parse(value)) {
            Some(Ok(event)) => {
                let segment = self.intern(&event.segment_id);
                let horizon_ms = self.progress.horizon_ms;
                let lateness_ms = settings.lateness_ms + settings.rekeyed_lateness_ms;
                self.take(record, &origin, &event, segment, horizon_ms, lateness_ms, settings, out);
            }
            Some(Err(invalid)) => self.refuse(record, &origin, &Refusal::Invalid(invalid), out),
            None => self.refuse(record, &origin, &Refusal::Invalid(missing()), out),
        }
    }

    /// A valid event of the record, and its segment's number.
    fn read<'r>(&mut self, record: &Record<'r>, settings: &Settings) -> Result<(Event<'r>, u32), Invalid> {
        let event = settings.normaliser.parse(record.value.ok_or_else(missing)?)?;
        event.check_not_ahead(record.timestamp_ms)?;
        let segment = self.intern(&event.segment_id);
        Ok((event, segment))
    }

    /// Counts an event in its window, unless that is gone or has seen it.
    #[expect(clippy::too_many_arguments, reason = "one event and how it is judged")]
    fn take(
        &mut self,
        record: &Record<'_>,
        origin: &Origin<'_>,
        event: &Event<'_>,
        segment: u32,
        complete_ms: i64,
        lateness_ms: i64,
        settings: &Settings,
        out: &mut Outbox,
    ) {
        let start_ms = event.timestamp_ms.div_euclid(settings.window_ms) * settings.window_ms;
        if complete_ms >= start_ms + settings.window_ms + lateness_ms {
            self.refuse(record, origin, &Refusal::Late, out);
            return;
        }
        let known = &mut self.segments[segment as usize];
        known.heard_ms = known.heard_ms.max(event.timestamp_ms);
        let hash = identity(known.hash, event);
        self.changed = true;
        let window = self.windows.entry(start_ms).or_default();
        if window.seen.insert(hash) {
            window.fresh.push(hash);
            window.accumulator(segment).add(event, hash);
            self.totals.counted += 1;
        } else {
            self.totals.duplicates += 1;
        }
    }

    fn refuse(&mut self, record: &Record<'_>, origin: &Origin<'_>, refusal: &Refusal, out: &mut Outbox) {
        self.changed = true;
        let reason = match refusal {
            Refusal::Invalid(invalid) => {
                self.totals.invalid += 1;
                format!("invalid: {invalid}")
            }
            Refusal::Late => {
                self.totals.late += 1;
                "late".to_owned()
            }
        };
        let (mut partition, mut offset) = (itoa::Buffer::new(), itoa::Buffer::new());
        let headers: [(&'static str, &[u8]); 4] = [
            ("topic", origin.topic),
            (PARTITION_HEADER, partition.format(origin.partition).as_bytes()),
            ("offset", offset.format(origin.offset).as_bytes()),
            ("reason", reason.as_bytes()),
        ];
        out.emit(DEAD_LETTERS, Some(origin.partition), record.key, record.value, &headers);
    }

    fn heard(&mut self, at_ms: i64) {
        if at_ms > self.progress.newest_ms {
            self.progress.newest_ms = at_ms;
            self.changed = true;
        }
    }

    /// Moves the watermark and closes the windows that it passes.
    fn advance(&mut self, to_ms: i64, now_ms: i64, settings: &Settings, out: &mut Outbox) {
        let before_ms = self.progress.watermark_ms;
        if !self.progress.advance(to_ms, now_ms) {
            return;
        }
        self.changed = true;
        let window_ms = settings.window_ms;
        let closed_before = before_ms.div_euclid(window_ms);
        let closed = self.progress.watermark_ms.div_euclid(window_ms);
        if closed == closed_before {
            return;
        }
        let (segments, value) = (&self.segments, &mut self.value);
        for (start_ms, window) in self.windows.range_mut(..closed * window_ms) {
            // Those that had closed before are corrected at the next flush.
            if start_ms.div_euclid(window_ms) >= closed_before {
                for (segment, accumulator) in window.all() {
                    accumulator.emitted = accumulator.count;
                    emit(&segments[segment as usize].id, accumulator, *start_ms, self.number, settings, value, out);
                }
            }
        }
        let mut text = itoa::Buffer::new();
        let marker = text.format(closed * window_ms).as_bytes();
        out.emit(AGGREGATES, Some(self.number), None, None, &[(WATERMARK_HEADER, marker)]);
        self.drop_windows(settings, out);
        self.sweep(settings);
    }

    /// Forgets windows that not even a forwarded event can reach any more.
    fn drop_windows(&mut self, settings: &Settings, out: &mut Outbox) {
        if !self.progress.raise_horizon(self.number, settings.max_skew_ms) {
            return;
        }
        let kept_ms = settings.window_ms + settings.lateness_ms + settings.rekeyed_lateness_ms;
        while let Some(oldest) = self.windows.first_entry() {
            let start_ms = *oldest.key();
            if self.progress.horizon_ms < start_ms + kept_ms {
                break;
            }
            let mut window = oldest.remove();
            // A correction of this very commit is not lost with the window.
            let (segments, number, value) = (&self.segments, self.number, &mut self.value);
            window.take_touched(|segment, accumulator| {
                if accumulator.count > accumulator.emitted {
                    emit(&segments[segment as usize].id, accumulator, start_ms, number, settings, value, out);
                }
            });
            for (segment, _) in window.all() {
                Key::Accumulator { start_ms, segment: &segments[segment as usize].id }.encode(&mut self.key);
                out.delete(number, &self.key);
            }
            for block in 0..window.blocks {
                Key::Hashes { start_ms, block }.encode(&mut self.key);
                out.delete(number, &self.key);
            }
        }
    }

    /// Once an hour of event time: forgets segments that were not heard of for long.
    fn sweep(&mut self, settings: &Settings) {
        let watermark_ms = self.progress.watermark_ms;
        if watermark_ms < self.swept_ms.saturating_add(3_600_000) {
            return;
        }
        self.swept_ms = watermark_ms;
        let stale = |s: &Segment| s.heard_ms < watermark_ms.saturating_sub(settings.expiry_ms);
        if !self.segments.iter().any(stale) {
            return;
        }
        // Numbers change, so windows in which they stand are numbered anew.
        let kept: Vec<u32> = (0_u32..)
            .zip(&self.segments)
            .filter(|(n, s)| !stale(s) || self.windows.values().any(|w| w.holds(*n)))
            .map(|(n, _)| n)
            .collect();
        let renumbered: HashMap<u32, u32> = kept.iter().copied().zip(0_u32..).collect();
        let mut old: Vec<Option<Segment>> = std::mem::take(&mut self.segments).into_iter().map(Some).collect();
        self.segments = kept.iter().filter_map(|n| old[*n as usize].take()).collect();
        self.numbers = self.segments.iter().zip(0_u32..).map(|(s, n)| (s.id.clone(), n)).collect();
        self.windows.values_mut().for_each(|window| window.renumber(&renumbered));
    }

    pub fn tick(&mut self, tick: Tick, settings: &Settings, out: &mut Outbox) {
        let Tick { now_ms, at_end_for_ms } = tick;
        let silent = at_end_for_ms.is_some_and(|ms| ms >= settings.idle_ms);
        let recent = self.progress.newest_ms > now_ms.saturating_sub(settings.idle_horizon_ms);
        if silent && recent {
            self.advance(now_ms - settings.out_of_orderness_ms, now_ms, settings, out);
        }
        self.announce(now_ms, at_end_for_ms, settings, out);
    }

    /// Tells the other partitions how far this one has come.
    pub fn announce(&mut self, now_ms: i64, at_end_for_ms: Option<i64>, settings: &Settings, out: &mut Outbox) {
        let Progress { watermark_ms, announced_ms, .. } = self.progress;
        let empty = watermark_ms == i64::MIN;
        let silent = at_end_for_ms.is_some_and(|ms| ms >= settings.idle_ms);
        let due = if empty {
            announced_ms == i64::MIN && silent
        } else {
            let first = announced_ms == i64::MIN || announced_ms == UNCONSTRAINED;
            let ahead_ms = watermark_ms.saturating_sub(announced_ms);
            let silent = at_end_for_ms.is_some_and(|ms| ms >= settings.idle_ms);
            first
                || (ahead_ms >= ANNOUNCE_EVERY_MS || (silent && ahead_ms > 0))
                    && has_passed(ANNOUNCE_PAUSE_MS, self.announced_at_ms, now_ms)
        };
        if self.partitions == 1 || !due {
            return;
        }
        let told_ms = if empty { UNCONSTRAINED } else { watermark_ms };
        let (mut watermark, mut own) = (itoa::Buffer::new(), itoa::Buffer::new());
        let headers: [(&'static str, &[u8]); 2] = [
            (WATERMARK_HEADER, watermark.format(told_ms).as_bytes()),
            (PARTITION_HEADER, own.format(self.number).as_bytes()),
        ];
        for other in (0..self.partitions).filter(|other| *other != self.number) {
            out.emit(REKEYED, Some(other), None, None, &headers);
        }
        self.progress.announced_ms = told_ms;
        self.announced_at_ms = now_ms;
        self.changed = true;
    }

    /// Before a commit: corrections of closed windows, and what changed into the changelog.
    pub fn flush(&mut self, settings: &Settings, out: &mut Outbox) {
        let (segments, number, watermark_ms) = (&self.segments, self.number, self.progress.watermark_ms);
        let (key, value) = (&mut self.key, &mut self.value);
        for (&start_ms, window) in &mut self.windows {
            let closed = start_ms + settings.window_ms <= watermark_ms;
            window.take_touched(|segment, accumulator| {
                let id = &segments[segment as usize].id;
                if closed && accumulator.count > accumulator.emitted {
                    accumulator.emitted = accumulator.count;
                    emit(id, accumulator, start_ms, number, settings, value, out);
                }
                Key::Accumulator { start_ms, segment: id }.encode(key);
                codec::encode_accumulator(accumulator, value);
                out.put(number, key, value);
            });
            if !window.fresh.is_empty() {
                Key::Hashes { start_ms, block: window.blocks }.encode(key);
                codec::encode_hashes(&window.fresh, value);
                out.put(number, key, value);
                window.blocks += 1;
                window.fresh.clear();
            }
        }
        if std::mem::take(&mut self.changed) {
            Key::Progress.encode(key);
            codec::encode_progress(&self.progress, &self.totals, value);
            out.put(number, key, value);
        }
    }

    fn intern(&mut self, id: &str) -> u32 {
        if let Some(number) = self.numbers.get(id) {
            return *number;
        }
        let number = u32::try_from(self.segments.len()).expect("segments fit in 32 bits");
        self.segments.push(Segment {
            id: id.into(),
            owner: partition_of(id.as_bytes(), self.partitions),
            hash: hash_of(id),
            heard_ms: self.progress.watermark_ms,
        });
        self.numbers.insert(id.into(), number);
        number
    }
}

fn missing() -> Invalid {
    Invalid { field: "value", problem: "is missing".into() }
}

fn forward(record: &Record<'_>, origin: &Origin<'_>, event: &Event<'_>, owner: u32, out: &mut Outbox) {
    let (mut partition, mut offset) = (itoa::Buffer::new(), itoa::Buffer::new());
    let headers: [(&'static str, &[u8]); 3] = [
        ("topic", origin.topic),
        (PARTITION_HEADER, partition.format(origin.partition).as_bytes()),
        ("offset", offset.format(origin.offset).as_bytes()),
    ];
    out.emit(REKEYED, Some(owner), Some(event.segment_id.as_bytes()), record.value, &headers);
}

fn emit(
    segment: &str,
    accumulator: &crate::window::Accumulator,
    start_ms: i64,
    partition: u32,
    settings: &Settings,
    value: &mut Vec<u8>,
    out: &mut Outbox,
) {
    value.clear();
    serde_json::to_writer(&mut *value, &accumulator.aggregate(segment, start_ms, settings))
        .expect("an aggregate is numbers and plain text");
    out.emit(AGGREGATES, Some(partition), Some(segment.as_bytes()), Some(value), &[]);
}

#[cfg(test)]
mod tests {
    use common::stream::StoredRecord;

    use super::*;

    const START_MS: i64 = 1_750_000_200_000;
    const DAY_MS: i64 = 86_400_000;

    fn reading(segment: &str, at_ms: i64) -> StoredRecord {
        let value = format!(
            r#"{{"event_id":"E{at_ms}","segment_id":"{segment}","timestamp":{at_ms},"speed":50,"source":"SENSOR","quality_score":1}}"#
        );
        StoredRecord { timestamp_ms: at_ms, value: Some(value.into_bytes()), ..StoredRecord::default() }
    }

    #[test]
    fn a_segment_not_heard_of_for_thirty_days_is_forgotten_and_may_come_back() {
        let (settings, mut out) = (Settings::default(), Outbox::default());
        let mut partition = Partition::new(0, 1);
        let mut feed = |partition: &mut Partition, segment: &str, at_ms: i64| {
            partition.event(&reading(segment, at_ms).as_record(), at_ms, &settings, &mut out);
        };
        feed(&mut partition, "OLD", START_MS);
        for day in 0..32 {
            feed(&mut partition, "LIVELY", START_MS + day * DAY_MS);
        }
        let known: Vec<&str> = partition.segments.iter().map(|s| &*s.id).collect();
        assert_eq!(known, ["LIVELY"]);
        assert_eq!(partition.windows.len(), 1, "older windows are gone too");
        feed(&mut partition, "OLD", START_MS + 32 * DAY_MS);
        feed(&mut partition, "LIVELY", START_MS + 32 * DAY_MS);
        assert_eq!(partition.totals().counted, 35);
        assert_eq!(partition.segments.len(), 2);
    }
}
