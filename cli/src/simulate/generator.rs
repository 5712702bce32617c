//! A deterministic stream of sensor events: what sensors see of the simulated traffic, with duplicates, disorder,
//! late and malformed events, and without those of silent sensors.
//!
//! Every sensor has a slot in every interval. What slot *k* sends is a function of the configuration and *k* alone, so
//! a stream goes on after a crash from a single number; the traffic up to then is simulated again (see `field`).

use serde::{Deserialize, Serialize};

use super::chance::mix;
use super::faults::{Faults, STUCK_MS};
use super::field::{Field, SAMPLE_MS};
use super::network::Network;
use super::sensor::{self, Reading};

/// What the sensors do. Rates are shares of all events, if nothing else is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeneratorConfig {
    pub seed: u64,
    pub segments: u32,
    /// Event time of the first event, epoch ms.
    pub start_ms: i64,
    /// Each segment reports once in this time, ms.
    pub interval_ms: i64,
    pub duplicates: f64,
    pub disorder: f64,
    pub late: f64,
    pub malformed: f64,
    /// Incidents by segment and day, on average.
    #[serde(default = "default_incidents")]
    pub incidents: f64,
    /// Times a sensor falls silent in a day, on average; it gets stuck a quarter as often.
    #[serde(default = "default_dropouts")]
    pub dropouts: f64,
}

fn default_incidents() -> f64 {
    0.04
}

fn default_dropouts() -> f64 {
    0.04
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            seed: 1,
            segments: 200,
            start_ms: 1_750_000_200_000,
            interval_ms: 30_000,
            duplicates: 0.01,
            disorder: 0.05,
            late: 0.001,
            malformed: 0.001,
            incidents: default_incidents(),
            dropouts: default_dropouts(),
        }
    }
}

/// The next slot: how many slots are done, those of silent sensors included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position(pub u64);

/// What an event is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Normal,
    Duplicate,
    /// So old that every window that could hold it is gone.
    Late,
    Malformed,
}

/// One event, in buffers that are used again.
#[derive(Debug, Default)]
pub struct Emission {
    /// The segment.
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Event time, epoch ms.
    pub timestamp_ms: i64,
}

/// An event comes at most so much after its time, unless it is meant to be late.
pub const DISORDER_MS: i64 = 25_000;
const MARKER_EVERY_MS: i64 = 60_000;
const LATE_MS: i64 = 45 * 60_000;
const LATER_MS: i64 = 30 * 60_000;
/// A duplicate comes at most so many slots after its original.
const DUPLICATE_SLOTS: u64 = 250;

pub struct Generator {
    config: GeneratorConfig,
    /// The next event's.
    next: Slot,
    /// When the last event happened, once there was one, epoch ms.
    last_ms: Option<i64>,
    /// When each sensor's slot is, from the begin of an interval, ms.
    offsets_ms: Vec<i64>,
    sensors: Vec<Sensor>,
    field: Field,
    faults: Faults,
    /// Nobody asks for faults before this much ago, ms.
    memory_ms: i64,
    /// Cumulated shares of malformed, late and duplicate events, of 2^32.
    shares: [u64; 3],
    disorder: u64,
}

/// A sensor's turn in an interval.
#[derive(Debug, Clone, Copy)]
struct Slot {
    number: u64,
    sensor: usize,
    at_ms: i64,
}

struct Sensor {
    id: String,
    /// Between the event's number and its time.
    middle: String,
    /// The end of every message of this sensor.
    tail: String,
    bias: f64,
}

impl Generator {
    #[must_use]
    pub fn new(config: GeneratorConfig) -> Self {
        Self::resume(config, Position::default())
    }

    /// Goes on behind `position`.
    ///
    /// # Panics
    /// If the configuration has no segments.
    #[must_use]
    pub fn resume(config: GeneratorConfig, position: Position) -> Self {
        let network = Network::new(config.seed, config.segments);
        assert!(!network.segments.is_empty(), "at least one segment is needed");
        let sensors = network.segments.iter().enumerate().map(|(i, segment)| Sensor {
            id: segment.id.clone(),
            middle: format!(r#"","segment_id":"{}","timestamp":"#, segment.id),
            tail: format!(
                r#","coordinates":{{"latitude":{:.6},"longitude":{:.6}}},"source":"SENSOR","quality_score":1.0}}"#,
                segment.latitude, segment.longitude
            ),
            bias: sensor::bias(config.seed, i as u64),
        });
        let sensors: Vec<Sensor> = sensors.collect();
        let mut sum = 0.0;
        let shares = [config.malformed, config.late, config.duplicates].map(|rate| {
            sum += rate;
            threshold(sum)
        });
        // The oldest that an event can tell of: it is late or a duplicate, of a sensor that was stuck then.
        let duplicate_ms = offset_ms(&config, DUPLICATE_SLOTS);
        let memory_ms = (LATE_MS + LATER_MS).max(duplicate_ms + DISORDER_MS) + STUCK_MS + config.interval_ms;
        let memory_ms = memory_ms + 2 * SAMPLE_MS;
        let at_ms = config.start_ms.saturating_add(offset_ms(&config, position.0));
        let first_ms = config.start_ms - STUCK_MS - config.interval_ms - 2 * SAMPLE_MS;
        let from_ms = (at_ms - memory_ms).max(first_ms);
        let faults = Faults::new(config.seed, config.dropouts, sensors.len(), from_ms);
        let field = Field::new(network, config.seed, config.incidents, from_ms, memory_ms);
        let disorder = threshold(config.disorder);
        let offsets_ms = (0..u64::from(config.segments)).map(|turn| offset_ms(&config, turn)).collect();
        let next = Slot { number: 0, sensor: 0, at_ms };
        let mut generator =
            Self { next, last_ms: None, offsets_ms, sensors, field, faults, memory_ms, shares, disorder, config };
        generator.next = generator.slot(position.0);
        generator.skip();
        generator
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.next.number)
    }

    /// When the next event happens, epoch ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.next.at_ms
    }

    /// The network that the sensors watch.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.field.network()
    }

    #[must_use]
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// After an event: the time up to which a marker may say that all events were emitted, once a minute.
    #[must_use]
    pub fn marker_due(&self) -> Option<i64> {
        let minute = |at_ms| (at_ms - self.config.start_ms) / MARKER_EVERY_MS;
        let crossed = self.last_ms.is_some_and(|last_ms| minute(self.now_ms()) > minute(last_ms));
        crossed.then(|| self.now_ms() - DISORDER_MS)
    }

    /// Writes the next event into `out`.
    pub fn next(&mut self, out: &mut Emission) -> Kind {
        let slot = self.next;
        if slot.at_ms >= self.field.covered_ms() {
            self.field.cover(slot.at_ms);
        }
        let kind = self.kind(slot);
        let original = if kind == Kind::Duplicate { self.original(slot) } else { None };
        self.write(original.unwrap_or(slot), kind, out);
        self.last_ms = Some(slot.at_ms);
        self.next = self.after(slot);
        self.skip();
        if kind == Kind::Duplicate && original.is_none() { Kind::Normal } else { kind }
    }

    /// What a duplicate repeats: an ordinary event a while before it.
    fn original(&self, slot: Slot) -> Option<Slot> {
        let back = 1 + mix(self.config.seed ^ 0xd0b, slot.number) % (DUPLICATE_SLOTS - 50);
        let mut before = (0..=slot.number.saturating_sub(back)).rev().take(50).map(|k| self.slot(k));
        before.find(|s| self.kind(*s) == Kind::Normal && self.sends(*s))
    }

    /// Goes on to the next slot whose sensor is not silent.
    fn skip(&mut self) {
        loop {
            let at_ms = self.next.at_ms;
            if at_ms >= self.faults.covered_ms() {
                self.faults.cover(at_ms);
                self.faults.forget(at_ms - self.memory_ms);
            }
            if self.sends(self.next) {
                return;
            }
            self.next = self.after(self.next);
        }
    }

    fn sends(&self, slot: Slot) -> bool {
        !self.faults.silent(slot.sensor, slot.at_ms)
    }

    fn slot(&self, number: u64) -> Slot {
        let sensor = usize::try_from(number % self.sensors.len() as u64).expect("below a usize");
        Slot { number, sensor, at_ms: self.config.start_ms.saturating_add(offset_ms(&self.config, number)) }
    }

    /// The slot after this one, as `slot` has it, without a division.
    fn after(&self, slot: Slot) -> Slot {
        let begin_ms = slot.at_ms - self.offsets_ms[slot.sensor];
        let (number, sensor) = (slot.number + 1, slot.sensor + 1);
        match self.offsets_ms.get(sensor) {
            Some(offset_ms) => Slot { number, sensor, at_ms: begin_ms + offset_ms },
            None => Slot { number, sensor: 0, at_ms: begin_ms + self.config.interval_ms },
        }
    }

    fn kind(&self, slot: Slot) -> Kind {
        let chance = mix(self.config.seed, slot.number) & 0xffff_ffff;
        match self.shares.iter().position(|share| chance < *share) {
            Some(0) => Kind::Malformed,
            // Nothing is late in the first hours.
            Some(1) if slot.at_ms > self.config.start_ms + 2 * LATE_MS => Kind::Late,
            Some(2) if slot.number > 0 => Kind::Duplicate,
            _ => Kind::Normal,
        }
    }

    fn write(&self, slot: Slot, kind: Kind, out: &mut Emission) {
        let chance = mix(self.config.seed ^ 0xe7e, slot.number);
        let age_ms = if kind == Kind::Late {
            LATE_MS + below(chance, LATER_MS)
        } else if chance & 0xffff_ffff < self.disorder {
            below(chance >> 8, DISORDER_MS)
        } else {
            0
        };
        let id = self.sensors[slot.sensor].id.as_str();
        out.timestamp_ms = (slot.at_ms - age_ms).max(self.config.start_ms);
        out.key.clear();
        out.key.extend_from_slice(id.as_bytes());
        out.value.clear();
        if kind == Kind::Malformed {
            return malformed(chance, id, out);
        }
        let reading = self.reading(slot.sensor, out.timestamp_ms, mix(chance, 2));
        self.message(slot, reading, out);
    }

    /// What a sensor measures at a time; one that is stuck says what it said when it got stuck.
    fn reading(&self, sensor: usize, at_ms: i64, chance: u64) -> Reading {
        let (at_ms, chance) = match self.faults.stuck(sensor, at_ms) {
            Some(stuck_ms) => (stuck_ms, mix(sensor as u64, stuck_ms.unsigned_abs())),
            None => (at_ms, chance),
        };
        sensor::read(self.field.truth(sensor, at_ms, self.config.interval_ms), self.sensors[sensor].bias, chance)
    }

    fn message(&self, slot: Slot, reading: Reading, out: &mut Emission) {
        let sensor = &self.sensors[slot.sensor];
        let (mut number, value) = (itoa::Buffer::new(), &mut out.value);
        value.extend_from_slice(br#"{"event_id":"EVT_"#);
        value.extend_from_slice(number.format(slot.number).as_bytes());
        value.extend_from_slice(sensor.middle.as_bytes());
        value.extend_from_slice(number.format(out.timestamp_ms).as_bytes());
        value.extend_from_slice(br#","speed":"#);
        push_tenths(value, reading.speed);
        value.extend_from_slice(br#","volume":"#);
        value.extend_from_slice(number.format(reading.volume).as_bytes());
        value.extend_from_slice(br#","occupancy":"#);
        push_tenths(value, reading.occupancy);
        value.extend_from_slice(sensor.tail.as_bytes());
    }
}

/// From the first slot to the k-th, ms.
fn offset_ms(config: &GeneratorConfig, k: u64) -> i64 {
    let per_interval = u64::from(config.segments.max(1));
    let (rounds, turn) = (k / per_interval, k % per_interval);
    let interval_ms = config.interval_ms.unsigned_abs();
    let passed_ms = rounds.saturating_mul(interval_ms).saturating_add(turn * interval_ms / per_interval);
    i64::try_from(passed_ms).unwrap_or(i64::MAX)
}

/// What broken senders send.
fn malformed(chance: u64, segment: &str, out: &mut Emission) {
    let at_ms = out.timestamp_ms;
    let text = match chance % 4 {
        0 => format!(r#"{{"event_id":"EVT_X","segment_id":"{segment}","timest"#),
        1 => format!(r#"{{"event_id":"EVT_X","segment_id":"{segment}","timestamp":{at_ms},"speed":-5}}"#),
        2 => format!(r#"{{"event_id":"EVT_X","segment_id":"{segment}","speed":50}}"#),
        _ => "sensor restarting, please wait".to_owned(),
    };
    out.value.extend_from_slice(text.as_bytes());
}

fn push_tenths(out: &mut Vec<u8>, tenths: u32) {
    out.extend_from_slice(itoa::Buffer::new().format(tenths / 10).as_bytes());
    out.push(b'.');
    out.push(b'0' + u8::try_from(tenths % 10).expect("a digit"));
}

fn below(chance: u64, n: i64) -> i64 {
    i64::try_from(chance % n.unsigned_abs()).expect("below an i64")
}

fn threshold(rate: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^32")]
    let share = (rate.clamp(0.0, 1.0) * 4_294_967_296.0) as u64;
    share
}

#[cfg(test)]
mod tests;
