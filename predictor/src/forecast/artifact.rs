//! A model as bytes: a header that says what it is, then the rest, compressed with zstd.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `TRFSPEED` |
//! | 4 | format, little-endian: [`FORMAT`] |
//! | rest | zstd: features, horizons, segments |
//!
//! Format 1 has the first [`FORMAT_1_FEATURES`] features, and of each horizon the two sums of trees that forecast. Format 2
//! says before the second of them which kind it is: 0, a sum of trees; 1, a perceptron.
//!
//! Numbers are little-endian; texts are a length byte and UTF-8. What was written once stays readable: a new format gets
//! a new number and a reader of its own beside the old one.

use thiserror::Error;

use super::boosting::Boosting;
use super::features::{FEATURES, Facts, NAMES};
use super::model::{Horizon, Member, Model, Unusual};
use super::network::{Link, Links};
use super::packed::Packed;
use super::perceptron::Perceptron;
use super::residuals::Residuals;
use crate::bytes::{Reader, Writer};

const MAGIC: [u8; 8] = *b"TRFSPEED";
/// The format that is written.
pub const FORMAT: u32 = 2;
/// Features that models of format 1 know.
const FORMAT_1_FEATURES: usize = 63;
/// Levels above 3 save little and take long.
const ZSTD_LEVEL: i32 = 3;
/// Most bytes of an unpacked model: 50,000 segments.
const MOST_BYTES: u64 = 4 << 30;

/// What forecasts by how much a speed will be above what is usual.
const TREES: u8 = 0;
const PERCEPTRON: u8 = 1;

/// Why bytes are no model.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ArtifactError {
    #[error("it is no speed model: it does not begin with TRFSPEED")]
    Foreign,
    #[error("its format is {0}, and this version reads up to {FORMAT}: update the workers, or promote an older model")]
    Newer(u32),
    #[error("it was fitted to other features than this version knows ({0}): train a new one")]
    Features(String),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// Writes a model.
///
/// # Errors
/// None but those of zstd out of memory.
pub fn encode(model: &Model) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut out = Writer::plain(&mut plain);
    out.u32(count(FEATURES));
    NAMES.iter().for_each(|name| out.text(name));
    out.u32(count(model.horizons.len()));
    for horizon in &model.horizons {
        out.u32(horizon.minutes);
        horizon.change.encode(&mut out);
        match &horizon.unusual {
            Unusual::Trees(trees) => {
                out.bytes(&[TREES]);
                trees.encode(&mut out);
            }
            Unusual::Perceptron(perceptron) => {
                out.bytes(&[PERCEPTRON]);
                perceptron.encode(&mut out);
            }
        }
        horizon.spread.encode(&mut out);
        horizon.residuals.counts.iter().for_each(|count| out.f32(*count));
    }
    let mut ids: Vec<(&str, usize)> = model.ids().collect();
    ids.sort_unstable_by_key(|(_, index)| *index);
    out.u32(count(ids.len()));
    for (id, index) in ids {
        encode_member(id, &model.segments[index], &mut out);
    }
    let mut bytes = [&MAGIC[..], &FORMAT.to_le_bytes()].concat();
    bytes.extend(zstd::encode_all(&*plain, ZSTD_LEVEL)?);
    Ok(bytes)
}

/// Reads a model.
///
/// # Errors
/// If the bytes are none that this version can work with.
pub fn decode(bytes: &[u8]) -> Result<Model, ArtifactError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(ArtifactError::Foreign)?;
    let (format, packed) = rest.split_first_chunk().ok_or(ArtifactError::Damaged("it ends within its header"))?;
    let format = u32::from_le_bytes(*format);
    let features = match format {
        1 => FORMAT_1_FEATURES,
        FORMAT => FEATURES,
        newer if newer > FORMAT => return Err(ArtifactError::Newer(newer)),
        _ => return Err(ArtifactError::Damaged("its format number is none")),
    };
    let mut plain = Vec::new();
    let mut unpacked =
        zstd::Decoder::new(packed).map_err(|_| ArtifactError::Damaged("its zstd frame does not begin"))?;
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut unpacked, MOST_BYTES), &mut plain)
        .map_err(|_| ArtifactError::Damaged("its zstd frame is broken"))?;
    let mut fields = Reader::plain(&plain);
    check_features(&mut fields, features)?;
    let model = decode_rest(&mut fields, format).ok_or(ArtifactError::Damaged("its contents do not fit together"))?;
    if !fields.is_empty() {
        return Err(ArtifactError::Damaged("something follows its end"));
    }
    Ok(model)
}

fn check_features(fields: &mut Reader<'_>, known: usize) -> Result<(), ArtifactError> {
    let broken = ArtifactError::Damaged("its list of features is broken");
    let count = fields.u32().ok_or(broken.clone())?;
    for i in 0..count as usize {
        let name = fields.text().ok_or(broken.clone())?;
        if NAMES[..known].get(i) != Some(&name) {
            return Err(ArtifactError::Features(format!("number {i} is {name}")));
        }
    }
    if count as usize == known { Ok(()) } else { Err(ArtifactError::Features(format!("there are {count}"))) }
}

fn decode_rest(fields: &mut Reader<'_>, format: u32) -> Option<Model> {
    let mut horizons = Vec::new();
    for _ in 0..fields.u32()? {
        let minutes = fields.u32()?;
        let change = Boosting::decode(fields, FEATURES)?;
        let kind = if format == 1 { TREES } else { fields.u8()? };
        let unusual = match kind {
            TREES => Unusual::Trees(Boosting::decode(fields, FEATURES)?),
            PERCEPTRON => Unusual::Perceptron(Perceptron::decode(fields, FEATURES)?),
            _ => return None,
        };
        let spread = Boosting::decode(fields, FEATURES)?;
        let mut residuals = Residuals::default();
        for count in &mut residuals.counts {
            *count = fields.f32().filter(|count| *count >= 0.0 && count.is_finite())?;
        }
        horizons.push(Horizon { minutes, change, unusual, spread, residuals });
    }
    let known = fields.u32()?;
    let mut segments = Vec::new();
    for _ in 0..known {
        let id: Box<str> = fields.text()?.into();
        segments.push((id, decode_member(fields, known)?));
    }
    Some(Model::new(horizons, segments))
}

fn encode_member(id: &str, member: &Member, out: &mut Writer<'_>) {
    out.text(id);
    let Facts { free_flow, mean, deviation, low, autocorrelation } = member.facts;
    [free_flow, mean, deviation, low, autocorrelation].into_iter().for_each(|fact| out.f32(fact));
    let Links { neighbours, downstream, upstream, correlated } = &member.links;
    for links in [neighbours, downstream, upstream, correlated] {
        out.u32(count(links.len()));
        for link in links {
            out.u32(link.index);
            out.f32(link.weight);
        }
    }
    member.profile.encode(out);
}

/// `known`: how many segments the model has.
fn decode_member(fields: &mut Reader<'_>, known: u32) -> Option<Member> {
    let mut fact = || fields.f32().filter(|fact| fact.is_finite());
    let facts = Facts { free_flow: fact()?, mean: fact()?, deviation: fact()?, low: fact()?, autocorrelation: fact()? };
    let mut links = || {
        let mut links = Vec::new();
        for _ in 0..fields.u32()? {
            let link = Link { index: fields.u32()?, weight: fields.f32()? };
            if link.index >= known || !link.weight.is_finite() {
                return None;
            }
            links.push(link);
        }
        Some(links)
    };
    let links = Links { neighbours: links()?, downstream: links()?, upstream: links()?, correlated: links()? };
    Some(Member { facts, links, profile: Packed::decode(fields)? })
}

fn count(length: usize) -> u32 {
    u32::try_from(length).expect("fewer than 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::fit::{Plan, fit};
    use crate::forecast::series::Series;

    fn model() -> Model {
        let speeds = |s: u16| (0..900_u16).map(|t| 50.0 + f32::from((t * (s + 3)) % 31) * 0.7).collect();
        let series = Series::new(5_900_000, (0..3).map(|s| (format!("S{s}").into(), speeds(s))).collect());
        let mut plan = Plan::new(&[15, 30], 0..800, 800..900);
        (plan.trees.trees, plan.spread.trees) = (5, 3);
        fit(&series, &[(0, 1, 0.5)], &jiff::tz::TimeZone::UTC.into(), &plan, &|| ())
    }

    #[test]
    fn a_model_is_read_back_as_it_was() {
        let model = model();
        let bytes = encode(&model).expect("memory");
        let back = decode(&bytes).expect("what was written");
        assert_eq!(encode(&back).expect("memory"), bytes);
        assert_eq!(back.segments.len(), 3);
        assert_eq!((back.index("S1"), back.index("S9")), (model.index("S1"), None));
        assert_eq!(back.horizon(15).map(|h| &h.residuals), model.horizon(15).map(|h| &h.residuals));
    }

    #[test]
    fn a_model_of_format_1_says_what_it_said() {
        let model = decode(include_bytes!("goldens/v1/model.bin")).expect("what was written once");
        // The columns that came later change nothing.
        let row: Vec<f32> = (0..91_u8).map(|i| f32::from(i % 7) * 9.0 - 10.0).collect();
        let said = model.horizons.iter().map(|horizon| {
            let Unusual::Trees(unusual) = &horizon.unusual else { panic!("format 1 has trees only") };
            (horizon.minutes, [&horizon.change, unusual, &horizon.spread].map(|trees| trees.predict(&row)))
        });
        let expected = [(15, [5.336_045_7, -0.173_977_6, 3.752_543]), (30, [0.980_161_85, 0.926_314_35, 3.396_650_3])];
        assert_eq!(said.collect::<Vec<_>>(), expected);
        assert_eq!((model.index("S1"), model.segments.len()), (Some(1), 3));
        let again = encode(&model).expect("memory");
        assert_eq!(decode(&again).map(|back| encode(&back).expect("memory")), Ok(again));
    }

    #[test]
    fn what_is_no_model_is_refused_with_the_reason() {
        let bytes = encode(&model()).expect("memory");
        assert_eq!(decode(b"PK\x03\x04"), Err(ArtifactError::Foreign));
        assert_eq!(decode(b""), Err(ArtifactError::Foreign));
        let mut newer = bytes.clone();
        newer[8] = 9;
        assert_eq!(decode(&newer), Err(ArtifactError::Newer(9)));
        for cut in (8..bytes.len()).step_by(97) {
            assert!(matches!(decode(&bytes[..cut]), Err(ArtifactError::Damaged(_))), "{cut}");
        }
        for at in (12..bytes.len()).step_by(61) {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            // zstd does not notice every change; what is read then is still safe to use.
            drop(decode(&broken));
        }
    }
}
