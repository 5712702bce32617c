//! What the sensors send.

use common::stream::partitioner::partition_of;

use super::chance::Chance;
use super::world::{Feed, Sent};

pub const EVENTS: &str = "traffic-events";

pub const WINDOW_MS: i64 = 300_000;
/// The first event's time: a window's start.
pub const START_MS: i64 = 1_750_000_200_000;

/// How the senders of a history behave.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    pub partitions: u32,
    pub segments: usize,
    pub events: usize,
    /// One event in so many goes to a wrong partition; 1: all go anywhere; `None`: never.
    pub misrouted: Option<u64>,
    /// Event times follow the clock; otherwise they are days old.
    pub live: bool,
    /// Markers are written.
    pub markers: bool,
    /// A partition that no sensor sends to.
    pub silent: Option<u32>,
}

impl Habits {
    pub fn pick(chance: &mut Chance) -> Self {
        let partitions = 1 + u32::try_from(chance.below(4)).expect("small");
        Self {
            partitions,
            segments: 2 + chance.index(7),
            events: 60 + chance.index(160),
            misrouted: [None, None, Some(10), Some(1)][chance.index(4)],
            live: chance.one_in(3),
            markers: !chance.one_in(3),
            silent: chance.one_in(4).then_some(partitions).filter(|p| *p > 1).map(|p| p - 1),
        }
    }
}

/// What the sender knows of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// Complete up to this event time, epoch ms.
    Marker(i64),
    Malformed,
    Reading(Reading),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    pub event_id: String,
    pub segment: String,
    pub timestamp_ms: i64,
    pub speed: Option<f64>,
    pub volume: u32,
}

/// Sends one record after the other.
pub struct Senders {
    pub habits: Habits,
    chance: Chance,
    drawn: usize,
    /// What was sent, by partition, in the order of sending.
    pub sent: Vec<(u32, Truth)>,
    /// Newest event time so far.
    pub newest_ms: i64,
    marked_ms: i64,
    recent: Vec<Reading>,
}

impl Senders {
    pub fn new(habits: Habits, seed: u64) -> Self {
        let chance = Chance::new(seed ^ 0x5e4d);
        Self {
            habits,
            chance,
            drawn: 0,
            sent: Vec::new(),
            newest_ms: START_MS,
            marked_ms: START_MS,
            recent: Vec::new(),
        }
    }

    /// A record, of which the sender keeps the truth.
    fn put(&mut self, partition: u32, key: Option<Vec<u8>>, value: Option<Vec<u8>>, truth: Truth) -> Sent {
        self.sent.push((partition, truth));
        Sent { topic: EVENTS.to_owned(), partition, key, value, marker_ms: None }
    }

    /// A marker for every partition.
    fn markers(&mut self, up_to_ms: i64) -> Vec<Sent> {
        let partitions = 0..self.habits.partitions;
        partitions
            .map(|p| Sent { marker_ms: Some(up_to_ms), ..self.put(p, None, None, Truth::Marker(up_to_ms)) })
            .collect()
    }

    fn reading(&mut self) -> Reading {
        let duplicate = self.chance.one_in(12);
        if let (true, false) = (duplicate, self.recent.is_empty()) {
            let i = self.chance.index(self.recent.len());
            return self.recent[i].clone();
        }
        let may_be_late = !self.habits.live && self.newest_ms > START_MS + 7_200_000 && self.chance.one_in(15);
        let age_ms = if may_be_late { 2_700_000 + self.chance.below(4_000_000) } else { self.chance.below(25_000) };
        let timestamp_ms = (self.newest_ms - i64::try_from(age_ms).expect("small")).max(START_MS);
        let segment = loop {
            let segment = format!("SEG_{}", self.chance.below(self.habits.segments as u64));
            let owner = partition_of(segment.as_bytes(), self.habits.partitions);
            if self.habits.silent != Some(owner) || self.habits.segments < 4 {
                break segment;
            }
        };
        let reading = Reading {
            event_id: format!("EVT_{}", self.drawn),
            segment,
            timestamp_ms,
            speed: (!self.chance.one_in(10))
                .then(|| f64::from(u32::try_from(self.chance.below(1500)).expect("small")) / 10.0),
            volume: u32::try_from(self.chance.below(40)).expect("small"),
        };
        if !may_be_late {
            self.recent.push(reading.clone());
            // What may still be sent twice was sent within the last minutes.
            let newest_ms = self.newest_ms;
            self.recent.retain(|r| newest_ms - r.timestamp_ms < 200_000);
        }
        reading
    }

    fn send(&mut self, reading: &Reading) -> Sent {
        let speed = reading.speed.map_or("null".to_owned(), |s| format!("{s:.1}"));
        let value = format!(
            r#"{{"event_id":"{}","segment_id":"{}","timestamp":{},"speed":{speed},"volume":{},"coordinates":{{"latitude":34.05,"longitude":-118.25}},"source":"SENSOR","quality_score":1.0}}"#,
            reading.event_id, reading.segment, reading.timestamp_ms, reading.volume
        );
        let owner = partition_of(reading.segment.as_bytes(), self.habits.partitions);
        let astray = self.habits.misrouted.is_some_and(|rarity| self.chance.one_in(rarity));
        let partition = if astray { self.any_partition() } else { owner };
        let key = (!astray).then(|| reading.segment.clone().into_bytes());
        self.put(partition, key, Some(value.into_bytes()), Truth::Reading(reading.clone()))
    }

    fn any_partition(&mut self) -> u32 {
        u32::try_from(self.chance.below(u64::from(self.habits.partitions))).expect("small")
    }

    fn malformed(&mut self) -> Sent {
        let value: Option<&[u8]> = match self.chance.below(5) {
            0 => None,
            1 => Some(b"\xff\x00 no JSON at all"),
            2 => Some(br#"{"event_id":"EVT_X","segment_id":"SEG_1","timestamp":17500002"#),
            3 => Some(br#"{"event_id":"EVT_X","segment_id":"SEG_1","timestamp":1750000200000,"speed":-5,"coordinates":{"latitude":34.05,"longitude":-118.25},"source":"SENSOR","quality_score":1.0}"#),
            _ => Some(br#"{"event_id":"EVT_X","segment_id":"SEG_1","speed":50}"#),
        };
        let partition = self.any_partition();
        self.put(partition, Some(b"SEG_1".to_vec()), value.map(<[u8]>::to_vec), Truth::Malformed)
    }
}

impl Feed for Senders {
    fn length(&self) -> usize {
        self.habits.events
    }

    fn done(&self) -> bool {
        self.drawn >= self.habits.events
    }

    fn next(&mut self, now_ms: i64) -> Vec<Sent> {
        self.drawn += 1;
        // A history of one to four hours; live senders follow the clock.
        let pace = 15_000 + i64::try_from(self.chance.below(100_000)).expect("small");
        self.newest_ms = if self.habits.live { now_ms.max(self.newest_ms) } else { self.newest_ms + pace };
        let mut out = Vec::new();
        if self.chance.one_in(25) {
            out.push(self.malformed());
        } else {
            let reading = self.reading();
            out.push(self.send(&reading));
        }
        if self.habits.markers && self.newest_ms - self.marked_ms > 60_000 {
            self.marked_ms = self.newest_ms;
            // Disorder is at most 25 s: all that is older was sent, except what is deliberately late.
            out.extend(self.markers(self.newest_ms - 25_000));
        }
        out
    }

    /// A last marker closes every window.
    fn last(&mut self) -> (i64, Vec<Sent>) {
        let close_ms = (self.newest_ms / WINDOW_MS + 1) * WINDOW_MS;
        (close_ms, self.markers(close_ms))
    }
}
