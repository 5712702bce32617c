//! Changelog entries: small, each with its format version in front.
//!
//! | machine | key | value |
//! |---|---|---|
//! | rules | `t` kind `:` rule | the rule's time |
//! | rules | `e` kind `:` rule NUL segment | an episode |
//! | rules | `s` silence's id | a silence, as JSON |
//! | incidents | `i` rule NUL segment | the last transition that was written |

use common::model::{Position, Severity};

use crate::episode::{Episode, Open};
use crate::incidents::Written;
use crate::silences::Silence;
use crate::table::Time;

const VERSION: u8 = 1;

/// What a changelog key names.
#[derive(Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Time { rule: &'a str },
    Episode { rule: &'a str, segment: &'a str },
    Silence { id: &'a str },
    Incident { rule: &'a str, segment: &'a str },
}

impl<'a> Key<'a> {
    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let (kind, rest) = key.split_first()?;
        let rest = std::str::from_utf8(rest).ok()?;
        let pair = || rest.split_once('\0');
        Some(match kind {
            b't' => Self::Time { rule: rest },
            b'e' => pair().map(|(rule, segment)| Self::Episode { rule, segment })?,
            b's' => Self::Silence { id: rest },
            b'i' => pair().map(|(rule, segment)| Self::Incident { rule, segment })?,
            _ => return None,
        })
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        into.clear();
        let (kind, first, second) = match self {
            Self::Time { rule } => (b't', rule, None),
            Self::Episode { rule, segment } => (b'e', rule, Some(segment)),
            Self::Silence { id } => (b's', id, None),
            Self::Incident { rule, segment } => (b'i', rule, Some(segment)),
        };
        into.push(kind);
        into.extend_from_slice(first.as_bytes());
        if let Some(second) = second {
            into.push(0);
            into.extend_from_slice(second.as_bytes());
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

    fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    fn f64(&mut self) -> Option<f64> {
        self.bytes().map(f64::from_le_bytes)
    }

    fn severity(&mut self) -> Option<Severity> {
        SEVERITIES.get(usize::from(self.u8()?)).copied()
    }
}

/// By their numbers in entries.
const SEVERITIES: [Severity; 4] = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical];

fn number_of(severity: Severity) -> u8 {
    match severity {
        Severity::Low => 0,
        Severity::Medium => 1,
        Severity::High => 2,
        Severity::Critical => 3,
    }
}

pub fn encode_time(time: &Time, into: &mut Vec<u8>) {
    into.clear();
    into.push(VERSION);
    into.extend_from_slice(&time.now_ms.to_le_bytes());
    into.extend_from_slice(&time.steady_since_ms.to_le_bytes());
}

pub fn decode_time(value: &[u8]) -> Option<Time> {
    let mut fields = Fields::of(value)?;
    Some(Time { now_ms: fields.i64()?, steady_since_ms: fields.i64()? })
}

/// Which optional parts an episode has.
const PLACE: u8 = 1;
const PENDING: u8 = 2;
const CLOSED: u8 = 4;
const OPEN: u8 = 8;
const ACKNOWLEDGED: u8 = 16;
const CLOSING: u8 = 32;

pub fn encode_episode(episode: &Episode, into: &mut Vec<u8>) {
    let Episode { heard_ms, place, pending_since_ms, closed_at_ms, open } = episode;
    let closing_since_ms = open.and_then(|open| open.closing_since_ms);
    let mut parts = 0;
    for (part, there) in [
        (PLACE, place.is_some()),
        (PENDING, pending_since_ms.is_some()),
        (CLOSED, closed_at_ms.is_some()),
        (OPEN, open.is_some()),
        (ACKNOWLEDGED, open.is_some_and(|open| open.acknowledged)),
        (CLOSING, closing_since_ms.is_some()),
    ] {
        parts |= if there { part } else { 0 };
    }
    into.clear();
    into.extend_from_slice(&[VERSION, parts]);
    into.extend_from_slice(&heard_ms.to_le_bytes());
    if let Some(Position { latitude, longitude }) = place {
        into.extend_from_slice(&latitude.to_le_bytes());
        into.extend_from_slice(&longitude.to_le_bytes());
    }
    for time in [pending_since_ms, closed_at_ms].into_iter().flatten() {
        into.extend_from_slice(&time.to_le_bytes());
    }
    if let Some(open) = open {
        into.extend_from_slice(&open.opened_at_ms.to_le_bytes());
        into.extend_from_slice(&open.changed_at_ms.to_le_bytes());
        into.extend_from_slice(&open.sequence.to_le_bytes());
        into.push(number_of(open.severity));
    }
    if let Some(time) = closing_since_ms {
        into.extend_from_slice(&time.to_le_bytes());
    }
}

pub fn decode_episode(value: &[u8]) -> Option<Episode> {
    let mut fields = Fields::of(value)?;
    let parts = fields.u8()?;
    let has = |part: u8| parts & part != 0;
    let heard_ms = fields.i64()?;
    let place = if has(PLACE) { Some(Position { latitude: fields.f64()?, longitude: fields.f64()? }) } else { None };
    let pending_since_ms = if has(PENDING) { Some(fields.i64()?) } else { None };
    let closed_at_ms = if has(CLOSED) { Some(fields.i64()?) } else { None };
    let mut open = None;
    if has(OPEN) {
        open = Some(Open {
            opened_at_ms: fields.i64()?,
            changed_at_ms: fields.i64()?,
            sequence: fields.u32()?,
            severity: fields.severity()?,
            acknowledged: has(ACKNOWLEDGED),
            closing_since_ms: if has(CLOSING) { Some(fields.i64()?) } else { None },
        });
    }
    Some(Episode { heard_ms, place, pending_since_ms, closed_at_ms, open })
}

pub fn encode_silence(silence: &Silence, into: &mut Vec<u8>) {
    into.clear();
    into.push(VERSION);
    serde_json::to_writer(&mut *into, silence).expect("a silence is numbers and plain text");
}

pub fn decode_silence(value: &[u8]) -> Option<Silence> {
    serde_json::from_slice(Fields::of(value)?.0).ok()
}

pub fn encode_written(written: &Written, into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&[VERSION, u8::from(written.open)]);
    into.extend_from_slice(&written.opened_at_ms.to_le_bytes());
    into.extend_from_slice(&written.changed_at_ms.to_le_bytes());
    into.extend_from_slice(&written.sequence.to_le_bytes());
    into.push(number_of(written.severity));
}

pub fn decode_written(value: &[u8]) -> Option<Written> {
    let mut fields = Fields::of(value)?;
    Some(Written {
        open: fields.u8()? == 1,
        opened_at_ms: fields.i64()?,
        changed_at_ms: fields.i64()?,
        sequence: fields.u32()?,
        severity: fields.severity()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_come_back() {
        for key in [
            Key::Time { rule: "predicted-congestion" },
            Key::Episode { rule: "sensor-silent", segment: "SEG_1" },
            Key::Silence { id: "5f0c" },
            Key::Incident { rule: "sensor-silent", segment: "SEG_1" },
        ] {
            let mut bytes = Vec::new();
            key.encode(&mut bytes);
            assert_eq!(Key::decode(&bytes), Some(key));
        }
        assert_eq!(Key::decode(b"zzz"), None);
        assert_eq!(Key::decode(b""), None);
    }

    fn severities() -> impl Strategy<Value = Severity> {
        prop::sample::select(SEVERITIES.to_vec())
    }

    fn episodes() -> impl Strategy<Value = Episode> {
        let time = || prop::option::of(any::<i64>());
        let place = prop::option::of((-90.0..90.0_f64, -180.0..180.0_f64));
        let open = prop::option::of((any::<i64>(), any::<i64>(), any::<u32>(), severities(), any::<bool>(), time()));
        (any::<i64>(), place, time(), time(), open).prop_map(
            |(heard_ms, place, pending_since_ms, closed_at_ms, open)| Episode {
                heard_ms,
                place: place.map(|(latitude, longitude)| Position { latitude, longitude }),
                pending_since_ms,
                closed_at_ms,
                open: open.map(|(opened_at_ms, changed_at_ms, sequence, severity, acknowledged, closing_since_ms)| {
                    Open { opened_at_ms, changed_at_ms, sequence, severity, acknowledged, closing_since_ms }
                }),
            },
        )
    }

    proptest! {
        #[test]
        fn episodes_come_back(episode in episodes()) {
            let mut bytes = Vec::new();
            encode_episode(&episode, &mut bytes);
            prop_assert_eq!(decode_episode(&bytes), Some(episode));
            prop_assert_eq!(decode_episode(&bytes[..bytes.len() - 1]), None);
            bytes[0] = 9;
            prop_assert_eq!(decode_episode(&bytes), None);
        }
    }

    #[test]
    fn the_rest_comes_back() {
        let mut bytes = Vec::new();
        let time = Time { now_ms: 7, steady_since_ms: i64::MIN };
        encode_time(&time, &mut bytes);
        assert_eq!(decode_time(&bytes), Some(time));
        let silence = Silence { segment: Some("S1".into()), rule: None, from: Some(1), until: 2 };
        encode_silence(&silence, &mut bytes);
        assert_eq!(decode_silence(&bytes), Some(silence));
        let written =
            Written { open: true, opened_at_ms: 1, changed_at_ms: 2, sequence: 3, severity: Severity::Critical };
        encode_written(&written, &mut bytes);
        assert_eq!(decode_written(&bytes), Some(written));
    }
}
