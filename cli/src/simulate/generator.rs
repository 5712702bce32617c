//! A deterministic stream of sensor events: daily curve, noise, duplicates, disorder, late and malformed ones.
//!
//! Event number *k* is a function of the configuration and *k* alone, so a stream goes on after a crash from a
//! single number.

use serde::{Deserialize, Serialize};

/// What the sensors do. Rates are shares of all events.
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
        }
    }
}

/// How many events were emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position(pub u64);

/// What an event is meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

pub struct Generator {
    config: GeneratorConfig,
    next: u64,
    sensors: Vec<Sensor>,
    /// Speed as a share of free flow, per 5 minutes of the day.
    day: Vec<f64>,
    /// Cumulated shares of malformed, late and duplicate events, of 2^32.
    shares: [u64; 3],
    disorder: u64,
}

struct Sensor {
    id: String,
    /// The end of every message of this sensor.
    tail: String,
    free_flow_kmh: f64,
}

impl Generator {
    #[must_use]
    pub fn new(config: GeneratorConfig) -> Self {
        Self::resume(config, Position::default())
    }

    /// Goes on behind `position`.
    #[must_use]
    pub fn resume(config: GeneratorConfig, position: Position) -> Self {
        const ROADS: [&str; 8] = ["I405_N", "I405_S", "I5_N", "I5_S", "US101_N", "US101_S", "I10_E", "I10_W"];
        let sensors = (0..config.segments).map(|i| {
            let chance = mix(config.seed ^ 0x5e6, u64::from(i));
            let (latitude, longitude) = (34.0 + share(chance) * 0.5, -118.5 + share(chance >> 32) * 0.5);
            Sensor {
                id: format!("SEG_{}_{:04}", ROADS[i as usize % ROADS.len()], i as usize / ROADS.len() + 1),
                tail: format!(
                    r#","coordinates":{{"latitude":{latitude:.6},"longitude":{longitude:.6}}},"source":"SENSOR","quality_score":1.0}}"#
                ),
                free_flow_kmh: 85.0 + share(chance >> 16) * 30.0,
            }
        });
        let sensors = sensors.collect();
        let mut sum = 0.0;
        let shares = [config.malformed, config.late, config.duplicates].map(|rate| {
            sum += rate;
            threshold(sum)
        });
        let disorder = threshold(config.disorder);
        Self { next: position.0, sensors, day: day(), shares, disorder, config }
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.next)
    }

    /// When the next event happens, epoch ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.at_ms(self.next)
    }

    /// After an event: the time up to which a marker may say that all events were emitted, once a minute.
    #[must_use]
    pub fn marker_due(&self) -> Option<i64> {
        let minute = |k| (self.at_ms(k) - self.config.start_ms) / MARKER_EVERY_MS;
        let crossed = self.next > 0 && minute(self.next) > minute(self.next - 1);
        crossed.then(|| self.now_ms() - DISORDER_MS)
    }

    /// Writes the next event into `out`.
    pub fn next(&mut self, out: &mut Emission) -> Kind {
        let k = self.next;
        self.next += 1;
        let kind = self.kind(k);
        // A duplicate repeats the nearest ordinary event before it.
        let original = if kind == Kind::Duplicate {
            let back = 1 + mix(self.config.seed ^ 0xd0b, k) % 200;
            (0..=k.saturating_sub(back)).rev().take(50).find(|j| self.kind(*j) == Kind::Normal)
        } else {
            None
        };
        self.write(original.unwrap_or(k), kind, out);
        if kind == Kind::Duplicate && original.is_none() { Kind::Normal } else { kind }
    }

    fn at_ms(&self, k: u64) -> i64 {
        let per_interval = u64::from(self.config.segments.max(1));
        let (rounds, turn) = (k / per_interval, k % per_interval);
        let interval_ms = self.config.interval_ms.unsigned_abs();
        let passed_ms = rounds * interval_ms + turn * interval_ms / per_interval;
        self.config.start_ms + i64::try_from(passed_ms).unwrap_or(i64::MAX - self.config.start_ms)
    }

    fn kind(&self, k: u64) -> Kind {
        let chance = mix(self.config.seed, k) & 0xffff_ffff;
        match self.shares.iter().position(|share| chance < *share) {
            Some(0) => Kind::Malformed,
            // Nothing is late in the first hours.
            Some(1) if self.at_ms(k) > self.config.start_ms + 2 * LATE_MS => Kind::Late,
            Some(2) if k > 0 => Kind::Duplicate,
            _ => Kind::Normal,
        }
    }

    fn write(&self, k: u64, kind: Kind, out: &mut Emission) {
        let chance = mix(self.config.seed ^ 0xe7e, k);
        let sensor = &self.sensors[usize::try_from(k % self.sensors.len() as u64).expect("below a usize")];
        let age_ms = if kind == Kind::Late {
            LATE_MS + below(chance, 1_800_000)
        } else if chance & 0xffff_ffff < self.disorder {
            below(chance >> 8, DISORDER_MS)
        } else {
            0
        };
        out.timestamp_ms = (self.at_ms(k) - age_ms).max(self.config.start_ms);
        out.key.clear();
        out.key.extend_from_slice(sensor.id.as_bytes());
        out.value.clear();
        if kind == Kind::Malformed {
            return malformed(chance, &sensor.id, out);
        }
        self.reading(k, chance, sensor, out);
    }

    fn reading(&self, k: u64, chance: u64, sensor: &Sensor, out: &mut Emission) {
        let slot = out.timestamp_ms.div_euclid(300_000).rem_euclid(288);
        let flow = self.day[usize::try_from(slot).expect("below 288")];
        let noise = share(chance >> 20) - 0.5;
        let speed_kmh = (sensor.free_flow_kmh * flow + noise * 12.0).clamp(3.0, 130.0);
        let vehicles = ((1.3 - flow) * 20.0 + noise * 4.0).max(0.0);
        let occupancy = ((1.05 - flow) * 60.0 + noise * 5.0).clamp(0.5, 95.0);
        let (mut number, value) = (itoa::Buffer::new(), &mut out.value);
        value.extend_from_slice(br#"{"event_id":"EVT_"#);
        value.extend_from_slice(number.format(k).as_bytes());
        value.extend_from_slice(br#"","segment_id":""#);
        value.extend_from_slice(sensor.id.as_bytes());
        value.extend_from_slice(br#"","timestamp":"#);
        value.extend_from_slice(number.format(out.timestamp_ms).as_bytes());
        value.extend_from_slice(br#","speed":"#);
        push_tenths(value, speed_kmh);
        value.extend_from_slice(br#","volume":"#);
        #[expect(clippy::cast_possible_truncation, reason = "a few vehicles")]
        value.extend_from_slice(number.format(vehicles as i64).as_bytes());
        value.extend_from_slice(br#","occupancy":"#);
        push_tenths(value, occupancy);
        value.extend_from_slice(sensor.tail.as_bytes());
    }
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

fn push_tenths(out: &mut Vec<u8>, value: f64) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed or a share")]
    let tenths = (value * 10.0) as u64;
    out.extend_from_slice(itoa::Buffer::new().format(tenths / 10).as_bytes());
    out.push(b'.');
    out.push(b'0' + u8::try_from(tenths % 10).expect("a digit"));
}

/// Morning and evening rush: speed as a share of free flow for each 5 minutes of the (UTC) day.
fn day() -> Vec<f64> {
    let dip = |hour: f64, at: f64, width: f64, depth: f64| depth * (-((hour - at) / width).powi(2)).exp();
    (0..288_u32)
        .map(|slot| {
            let hour = (f64::from(slot) / 12.0 + 16.0) % 24.0;
            1.0 - dip(hour, 8.0, 1.2, 0.55) - dip(hour, 17.5, 1.6, 0.65) - dip(hour, 13.0, 3.0, 0.15)
        })
        .collect()
}

/// SplitMix64 of the k-th number.
fn mix(seed: u64, k: u64) -> u64 {
    let mut z = seed.wrapping_add(k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 0-1 from 16 bits.
fn share(chance: u64) -> f64 {
    f64::from(u32::try_from(chance & 0xffff).expect("16 bits")) / 65_535.0
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
mod tests {
    use super::*;

    fn config() -> GeneratorConfig {
        GeneratorConfig { duplicates: 0.1, late: 0.02, malformed: 0.02, ..GeneratorConfig::default() }
    }

    fn take(generator: &mut Generator, n: usize) -> Vec<(Kind, Vec<u8>, i64)> {
        let mut out = Emission::default();
        let mut next = || {
            let kind = generator.next(&mut out);
            (kind, out.value.clone(), out.timestamp_ms)
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn a_stream_goes_on_from_any_position() {
        let whole = take(&mut Generator::new(config()), 3_000);
        for at in [0, 1, 777, 2_999] {
            let mut rest = Generator::resume(config(), Position(at));
            let at = usize::try_from(at).expect("small");
            assert_eq!(take(&mut rest, 3_000 - at), whole[at..]);
        }
    }

    #[test]
    fn kinds_are_what_they_say() {
        let events = take(&mut Generator::new(config()), 80_000);
        let count = |kind| events.iter().filter(|e| e.0 == kind).count();
        assert!((6_000..10_000).contains(&count(Kind::Duplicate)), "{}", count(Kind::Duplicate));
        assert!((500..2_000).contains(&count(Kind::Late)));
        assert!((1_200..2_000).contains(&count(Kind::Malformed)));
        let normaliser = common::model::Normaliser::default();
        let mut seen = std::collections::HashSet::new();
        let mut newest = 0;
        for (kind, value, _) in &events {
            let parsed = normaliser.parse(value);
            assert_eq!(parsed.is_err(), *kind == Kind::Malformed, "{}", String::from_utf8_lossy(value));
            let Ok(event) = parsed else { continue };
            assert_eq!(seen.insert(event.event_id.to_string()), *kind != Kind::Duplicate);
            if *kind == Kind::Late {
                assert!(event.timestamp_ms <= newest - LATE_MS + 1_000);
            } else if *kind == Kind::Normal {
                assert!(event.timestamp_ms >= newest - DISORDER_MS);
            }
            newest = newest.max(event.timestamp_ms);
        }
    }

    #[test]
    fn a_marker_claims_no_more_than_was_sent() {
        let mut generator = Generator::new(config());
        let mut out = Emission::default();
        let mut claimed = i64::MIN;
        for _ in 0..50_000 {
            let kind = generator.next(&mut out);
            if kind == Kind::Normal {
                assert!(out.timestamp_ms >= claimed);
            }
            if let Some(marker) = generator.marker_due() {
                assert!(marker >= claimed);
                claimed = marker;
            }
        }
        assert!(claimed > config().start_ms);
    }
}
