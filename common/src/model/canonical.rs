//! The fast path: one pass over the canonical form, borrowing, without an allocation.
//!
//! The scanner understands the canonical fields in any order, written plainly: ids and enums without
//! escapes, numbers without exponent. Whatever it does not expect, including everything invalid, makes it
//! give up, and `dialect.rs` decides. So it never rejects, and what it accepts `dialect.rs` accepts as
//! the same event, bit for bit (its decimals are computed the way `serde_json` does).

use std::borrow::Cow;

use super::event::{
    Coordinates, DEFAULT_QUALITY, DEFAULT_SOURCE, EVENT_ID_MAX, Event, LATITUDE, LONGITUDE, OCCUPANCY_PERCENT, QUALITY,
    SEGMENT_ID_MAX, SOURCES, SPEED_KMH, SpeedUnit, VOLUME, Volume, is_id_byte, within,
};

/// The event, if `text` is one in canonical form, and whether it says all that the text says: nothing was filled in,
/// converted or left out.
pub(super) fn scan(text: &str, speed_unit: SpeedUnit) -> Option<(Event<'_>, bool)> {
    let mut fields = Fields::default();
    let mut scanner = Scanner { text, bytes: text.as_bytes(), at: 0 };
    scanner.object(|scanner, name| fields.read(scanner, name))?;
    scanner.end()?;
    fields.event(speed_unit)
}

/// What was read so far; the outer `Option` is whether the field was there.
#[derive(Default)]
struct Fields<'a> {
    event_id: Option<&'a str>,
    segment_id: Option<&'a str>,
    timestamp_ms: Option<i64>,
    speed: Option<Option<f64>>,
    volume: Option<Option<u32>>,
    occupancy: Option<Option<f64>>,
    coordinates: Option<Coordinates>,
    source: Option<&'static str>,
    quality_score: Option<f64>,
    metadata: Option<()>,
}

impl<'a> Fields<'a> {
    fn read(&mut self, scanner: &mut Scanner<'a>, name: &str) -> Option<()> {
        match name {
            "event_id" => once(&mut self.event_id, scanner.id(EVENT_ID_MAX)?),
            "segment_id" => once(&mut self.segment_id, scanner.id(SEGMENT_ID_MAX)?),
            "timestamp" => once(&mut self.timestamp_ms, scanner.timestamp_ms()?),
            "speed" => once(&mut self.speed, scanner.nullable(Scanner::decimal)?),
            "volume" => once(&mut self.volume, scanner.nullable(Scanner::count)?),
            "occupancy" => once(&mut self.occupancy, scanner.nullable(Scanner::decimal)?),
            "coordinates" => once(&mut self.coordinates, scanner.coordinates()?),
            "source" => once(&mut self.source, scanner.source()?),
            "quality_score" => once(&mut self.quality_score, scanner.decimal()?),
            "metadata" => once(&mut self.metadata, scanner.metadata()?),
            _ => None,
        }
    }

    fn event(self, speed_unit: SpeedUnit) -> Option<(Event<'a>, bool)> {
        let speed_kmh = match self.speed.flatten() {
            Some(speed) => Some(ranged(speed_unit.to_kmh(speed), SPEED_KMH)?),
            None => None,
        };
        let occupancy_percent = match self.occupancy.flatten() {
            Some(occupancy) => Some(ranged(occupancy, OCCUPANCY_PERCENT)?),
            None => None,
        };
        let says_all = self.metadata.is_none()
            && self.source.is_some()
            && self.quality_score.is_some()
            && self.speed.flatten() == speed_kmh;
        let event = Event {
            event_id: Cow::Borrowed(self.event_id?),
            segment_id: Cow::Borrowed(self.segment_id?),
            timestamp_ms: self.timestamp_ms?,
            speed_kmh,
            volume: self.volume.flatten().map(Volume::Count),
            occupancy_percent,
            coordinates: self.coordinates,
            source: self.source.unwrap_or(DEFAULT_SOURCE),
            quality_score: ranged(self.quality_score.unwrap_or(DEFAULT_QUALITY), QUALITY)?,
        };
        Some((event, says_all))
    }
}

/// Sets a field that must not have been set.
fn once<T>(field: &mut Option<T>, value: T) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn ranged(value: f64, range: (f64, f64)) -> Option<f64> {
    // Adding zero makes -0 a plain 0.
    within(value, range).then_some(value + 0.0)
}

/// Powers of ten that a double holds exactly enough for `serde_json` to divide by.
const POWERS: [f64; 20] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19];

/// Digits that always fit a `u64`.
const DIGITS_MAX: usize = 19;

/// A position in the text. Every method returns `None` where it meets something else than it reads.
struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        if self.peek() != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    fn end(&mut self) -> Option<()> {
        self.skip_space();
        (self.at == self.bytes.len()).then_some(())
    }

    /// An object; `read` takes the value of each name.
    fn object(&mut self, mut read: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.skip_space();
        self.eat(b'{')?;
        self.skip_space();
        if self.eat(b'}').is_some() {
            return Some(());
        }
        loop {
            let name = self.id_text()?;
            self.skip_space();
            self.eat(b':')?;
            self.skip_space();
            read(self, name)?;
            self.skip_space();
            if self.eat(b',').is_none() {
                return self.eat(b'}');
            }
            self.skip_space();
        }
    }

    /// A string of id characters.
    fn id_text(&mut self) -> Option<&'a str> {
        self.eat(b'"')?;
        let start = self.at;
        let rest = self.bytes.get(start..)?;
        self.at += rest.iter().position(|byte| !is_id_byte(*byte))?;
        let end = self.at;
        self.eat(b'"')?;
        self.text.get(start..end)
    }

    fn id(&mut self, max: usize) -> Option<&'a str> {
        let id = self.id_text()?;
        (1..=max).contains(&id.len()).then_some(id)
    }

    /// A string that needs no unescaping.
    fn plain_text(&mut self) -> Option<()> {
        self.eat(b'"')?;
        let rest = self.bytes.get(self.at..)?;
        self.at += rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
        self.eat(b'"')
    }

    fn nullable<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.peek() == b'n' {
            return self.bytes.get(self.at..)?.starts_with(b"null").then(|| {
                self.at += 4;
                None
            });
        }
        read(self).map(Some)
    }

    /// Digits appended to `number`; their count.
    fn digits(&mut self, number: &mut u64) -> usize {
        let start = self.at;
        loop {
            let digit = self.peek().wrapping_sub(b'0');
            if digit > 9 {
                return self.at - start;
            }
            *number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
    }

    /// An integer of 1-19 digits without leading zeros.
    fn integer(&mut self) -> Option<(u64, usize)> {
        let starts_with_zero = self.peek() == b'0';
        let mut number = 0;
        let digits = self.digits(&mut number);
        let plain = matches!(digits, 1..=DIGITS_MAX) && !(starts_with_zero && digits > 1);
        plain.then_some((number, digits))
    }

    /// A number without exponent. `serde_json` computes it the same way: all digits, divided once.
    fn decimal(&mut self) -> Option<f64> {
        let negative = self.eat(b'-').is_some();
        let (mut number, integer_digits) = self.integer()?;
        let mut decimals = 0;
        if self.eat(b'.').is_some() {
            decimals = self.digits(&mut number);
            // Exact in a float, and so is a power of ten up to 22: the one division rounds right. Longer ones are rare.
            if decimals == 0 || integer_digits + decimals > DIGITS_MAX || number > 1 << 53 {
                return None;
            }
        }
        if matches!(self.peek(), b'e' | b'E') {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "exact, or rounded once as an integer")]
        let magnitude = number as f64;
        let value = if decimals == 0 { magnitude } else { magnitude / POWERS[decimals] };
        Some(if negative { -value } else { value })
    }

    fn count(&mut self) -> Option<u32> {
        let (number, _) = self.integer()?;
        let number = u32::try_from(number).ok()?;
        let ended = !matches!(self.peek(), b'.' | b'e' | b'E');
        (ended && within(f64::from(number), VOLUME)).then_some(number)
    }

    /// 13 digits: exactly the valid range of epoch milliseconds.
    fn timestamp_ms(&mut self) -> Option<i64> {
        let (number, digits) = self.integer()?;
        let ended = !matches!(self.peek(), b'.' | b'e' | b'E');
        if ended && digits == 13 { i64::try_from(number).ok() } else { None }
    }

    fn coordinates(&mut self) -> Option<Coordinates> {
        let (mut latitude, mut longitude) = (None, None);
        self.object(|scanner, name| match name {
            "latitude" => once(&mut latitude, scanner.decimal()?),
            "longitude" => once(&mut longitude, scanner.decimal()?),
            _ => None,
        })?;
        Some(Coordinates { latitude: ranged(latitude?, LATITUDE)?, longitude: ranged(longitude?, LONGITUDE)? })
    }

    fn source(&mut self) -> Option<&'static str> {
        let name = self.id_text()?;
        SOURCES.into_iter().find(|source| *source == name)
    }

    /// A map of strings, of which nothing is kept.
    fn metadata(&mut self) -> Option<()> {
        self.object(|scanner, _| scanner.plain_text())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::dialect;
    use crate::model::event::Normaliser;

    const WHOLE: &str = concat!(
        r#"{"event_id":"EVT_1-a","segment_id":"SEG_I405_N_0001","timestamp":1759674600000,"speed":58.3,"volume":17,"#,
        r#""occupancy":12.25,"coordinates":{"latitude":34.05,"longitude":-118.25},"source":"CAMERA","#,
        r#""quality_score":0.9,"metadata":{"lane":"2","note":"wet — slow"}}"#
    );

    #[test]
    fn the_canonical_form_is_recognised() {
        let spaced = WHOLE.replace(':', " : ").replace(',', " ,\n\t").replace("} }", "}}");
        let least = r#"{"event_id":"e","segment_id":"s","timestamp":1759674600000}"#;
        let nulls = least.replace('}', r#","speed":null,"volume":null,"occupancy":null}"#);
        for text in [WHOLE, spaced.as_str(), least, nulls.as_str()] {
            let (event, _) = scan(text, SpeedUnit::Kmh).unwrap_or_else(|| panic!("not recognised: {text}"));
            assert_eq!(Ok(event), dialect::parse(text, &Normaliser::default()));
        }
    }

    #[test]
    fn whatever_else_is_left_to_the_general_path() {
        let swaps = [
            ("EVT_1-a", "EVT 1"),
            ("EVT_1-a", r"EVT\u005f1"),
            ("EVT_1-a", ""),
            ("1759674600000", "1759674600"),
            ("1759674600000", "1759674600000.0"),
            ("1759674600000", "01759674600000"),
            ("58.3", "-0.1"),
            ("58.3", "200.1"),
            ("58.3", "5.83e1"),
            ("58.3", "058.3"),
            ("58.3", "58."),
            ("58.3", ".3"),
            ("58.3", "-"),
            ("58.3", "nul"),
            ("58.3", "12345678901234567890"),
            ("58.3", "1.2345678901234567890"),
            (":17,", ":17.0,"),
            (":17,", ":10001,"),
            (":17,", ":-1,"),
            ("34.05", "90.5"),
            ("CAMERA", "camera"),
            ("0.9", "1.5"),
            ("\"2\"", "2"),
            ("wet", "w\net"),
            ("\"speed\"", "\"speed_kmh\""),
            ("\"occupancy\"", "\"speed\""),
            ("}}", "}"),
            ("}}", "}},"),
            ("}}", "}} x"),
        ];
        for (from, to) in swaps {
            assert!(WHOLE.contains(from), "{from}");
            assert_eq!(scan(&WHOLE.replace(from, to), SpeedUnit::Kmh), None, "{from} -> {to}");
        }
        for cut in (0..WHOLE.len()).filter(|cut| WHOLE.is_char_boundary(*cut)) {
            assert_eq!(scan(&WHOLE[..cut], SpeedUnit::Kmh), None, "{}", &WHOLE[..cut]);
        }
    }

    /// A number as some producer may write it.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            "-?(0|[1-9][0-9]{0,4})",
            "-?(0|[1-9][0-9]{0,2})\\.[0-9]{1,18}",
            (-100.0f64..250.0).prop_map(|x| format!("{x:?}")),
            "[0-9]{1,3}(\\.[0-9]{0,2})?([eE]-?[0-9])?",
            Just("null".to_owned()),
        ]
    }

    fn field() -> impl Strategy<Value = String> {
        let named = |name: &'static str| number().prop_map(move |value| format!("\"{name}\":{value}"));
        prop_oneof![
            named("speed"),
            named("volume"),
            named("occupancy"),
            named("quality_score"),
            (number(), number()).prop_map(|(n, e)| format!(r#""coordinates":{{"latitude":{n},"longitude":{e}}}"#)),
            "(SENSOR|PROBE|RADAR)".prop_map(|source| format!(r#""source":"{source}""#)),
            "[a-z ü]{0,4}".prop_map(|text| format!(r#""metadata": {{"a" : "{text}"}}"#)),
            "\"[a-z_]{1,8}\":[0-9]",
        ]
    }

    proptest! {
        /// What the fast path accepts, the general path accepts as the same event, bit for bit.
        #[test]
        fn both_paths_agree(
            id in "[A-Za-z0-9_-]{0,130}",
            segment in "[A-Za-z0-9_-]{0,66}",
            time in "(17[0-9]{11}|17[0-9]{8}|[0-9]{13,14})",
            fields in proptest::collection::vec(field(), 0..6),
        ) {
            let fields: String = fields.iter().flat_map(|field| [",", field]).collect();
            let text = format!(r#"{{"event_id":"{id}","segment_id":"{segment}","timestamp":{time}{fields}}}"#);
            for speed_unit in [SpeedUnit::Kmh, SpeedUnit::Mph] {
                if let Some((event, _)) = scan(&text, speed_unit) {
                    let rules = Normaliser { speed_unit, ..Normaliser::default() };
                    prop_assert_eq!(Ok(event), dialect::parse(&text, &rules), "{}", text);
                }
            }
        }

        /// What an event is written as is canonical and means the same event.
        #[test]
        fn written_and_recognised(
            event_id in "[A-Za-z0-9_-]{1,128}",
            segment_id in "[A-Za-z0-9_-]{1,64}",
            timestamp_ms in 1_000_000_000_000i64..=9_999_999_999_999,
            tenths in proptest::option::of(0u32..=2000),
            count in proptest::option::of(0u32..=10_000),
            source in 0usize..SOURCES.len(),
            hundredths in 0u32..=100,
            at in proptest::option::of((-9000i32..=9000, -18_000i32..=18_000)),
        ) {
            let event = Event {
                event_id: event_id.into(),
                segment_id: segment_id.into(),
                timestamp_ms,
                speed_kmh: tenths.map(|t| f64::from(t) / 10.0),
                volume: count.map(Volume::Count),
                occupancy_percent: count.map(|c| f64::from(c) / 100.0),
                coordinates: at.map(|(n, e)| Coordinates { latitude: f64::from(n) / 100.0, longitude: f64::from(e) / 100.0 }),
                source: SOURCES[source],
                quality_score: f64::from(hundredths) / 100.0,
            };
            let mut json = Vec::new();
            event.write_json(&mut json);
            let text = String::from_utf8(json).expect("JSON is UTF-8");
            prop_assert_eq!(scan(&text, SpeedUnit::Kmh), Some((event, true)), "{}", text);
        }
    }
}
