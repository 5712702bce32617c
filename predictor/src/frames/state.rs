//! A partition's frames in the changelog.

use super::confidence::Bin;
use super::{Frames, Horizon, Made, REGIMES, Score, Sent, Spreads, Trial};
use crate::bytes::{Reader, Writer};
use crate::forecast::features::Network;
use crate::forecast::residuals::{BINS, Residuals};
use std::collections::BTreeMap;

/// Changelog entries of frames, named by the byte that follows the partition's prefix.
pub const CLOSED: u8 = b'c';
pub const HORIZON: u8 = b'h';
pub const SENT: u8 = b's';
pub const SPREADS: u8 = b'v';

impl Frames {
    /// The entries that changed since the last commit, as (kind and rest of the key, value).
    pub fn flush(&mut self, bytes: &mut Vec<u8>, put: &mut dyn FnMut(&[u8], &[u8])) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let Some(closed) = self.closed else { return };
        let mut out = Writer::new(bytes);
        out.i64(closed);
        out.text(&self.model);
        put(&[CLOSED], bytes);
        for horizon in &self.horizons {
            encode_horizon(horizon, bytes);
            put(&[&[HORIZON][..], &horizon.minutes.to_be_bytes()].concat(), bytes);
        }
        // A slot is used again once its forecasts were scored.
        for step in self.fresh.drain(..) {
            let Some(sent) = self.sent.get(&step) else { continue };
            let mut out = Writer::new(bytes);
            out.i64(step);
            out.f32(sent.network.unusual);
            out.f32(sent.network.change);
            out.text(&sent.by);
            for made in &sent.made {
                let numbers =
                    [[made.published, made.said], made.model, made.stand_in, [made.fallback, made.regression]];
                numbers.iter().flatten().for_each(|number| out.f32(*number));
            }
            put(&[SENT, sent_slot(step)], bytes);
        }
        let mut out = Writer::new(bytes);
        for (id, spreads) in &self.spreads {
            out.text(id);
            for (spread, count) in spreads.iter().flatten() {
                out.f32(*spread);
                out.f32(*count);
            }
        }
        put(&[SPREADS], bytes);
    }

    /// Puts an entry back; `false` if it is none of ours.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) -> bool {
        match key {
            [CLOSED] => {
                let mut fields = Reader::new(value);
                self.closed = fields.as_mut().and_then(Reader::i64);
                self.model = fields.as_mut().and_then(Reader::text).unwrap_or_default().into();
            }
            [HORIZON, minutes @ ..] => {
                let of = |horizon: &&mut Horizon| horizon.minutes.to_be_bytes() == minutes;
                // A horizon that is configured no more is left alone.
                if let Some(horizon) = self.horizons.iter_mut().find(of)
                    && let Some(restored) = decode_horizon(horizon.minutes, value)
                {
                    *horizon = restored;
                }
            }
            [SENT, _] => {
                if let Some((step, sent)) = decode_sent(value) {
                    self.sent.retain(|other, _| sent_slot(*other) != sent_slot(step));
                    self.sent.insert(step, sent);
                }
            }
            [SPREADS] => self.spreads = decode_spreads(value, self.horizons.len()).unwrap_or_default(),
            _ => return false,
        }
        true
    }
}

fn sent_slot(step: i64) -> u8 {
    u8::try_from(step.rem_euclid(16)).expect("below 16")
}

fn encode_horizon(horizon: &Horizon, bytes: &mut Vec<u8>) {
    let mut out = Writer::new(bytes);
    out.f64(horizon.spread);
    for Score { scored, error, persistence_error } in [horizon.score, horizon.recent] {
        [scored, error, persistence_error].into_iter().for_each(|sum| out.f64(sum));
    }
    out.f64(horizon.regression.rows);
    for trial in &horizon.trials {
        out.f64(trial.windows);
        trial.errors.iter().for_each(|error| out.f64(*error));
    }
    for bin in horizon.confidence.iter().flat_map(|confidence| &confidence.bins) {
        [bin.said, bin.held, bin.n].into_iter().for_each(|sum| out.f64(sum));
    }
    for (i, row) in horizon.regression.factor.iter().enumerate() {
        row[i..].iter().for_each(|value| out.f64(*value));
    }
    horizon.residuals.counts.iter().for_each(|count| out.f32(*count));
    let of_model = horizon.model_residuals.as_ref().map_or([f32::NAN; BINS], |residuals| residuals.counts);
    of_model.iter().for_each(|count| out.f32(*count));
    horizon.regression.coefficients.iter().flatten().for_each(|value| out.f64(*value));
}

fn decode_horizon(minutes: u32, value: &[u8]) -> Option<Horizon> {
    let mut fields = Reader::new(value)?;
    let mut horizon = Horizon::new(minutes);
    horizon.spread = fields.f64()?;
    for score in [&mut horizon.score, &mut horizon.recent] {
        *score = Score { scored: fields.f64()?, error: fields.f64()?, persistence_error: fields.f64()? };
    }
    horizon.regression.rows = fields.f64()?;
    for trial in &mut horizon.trials {
        *trial = Trial { windows: fields.f64()?, errors: [fields.f64()?, fields.f64()?, fields.f64()?] };
    }
    for bin in horizon.confidence.iter_mut().flat_map(|confidence| &mut confidence.bins) {
        *bin = Bin { said: fields.f64()?, held: fields.f64()?, n: fields.f64()? };
    }
    for (i, row) in horizon.regression.factor.iter_mut().enumerate() {
        for value in &mut row[i..] {
            *value = fields.f64()?;
        }
    }
    for count in horizon.residuals.counts.iter_mut().take(BINS) {
        *count = fields.f32()?;
    }
    let mut of_model = Residuals::default();
    for count in &mut of_model.counts {
        *count = fields.f32()?;
    }
    horizon.model_residuals = (!of_model.counts[0].is_nan()).then_some(of_model);
    let coefficients: Vec<f64> = std::iter::from_fn(|| fields.f64()).collect();
    horizon.regression.coefficients = coefficients.try_into().ok();
    Some(horizon)
}

fn decode_sent(value: &[u8]) -> Option<(i64, Sent)> {
    let mut fields = Reader::new(value)?;
    let step = fields.i64()?;
    let network = Network { unusual: fields.f32()?, change: fields.f32()? };
    let by = fields.text()?.into();
    let mut made = Vec::new();
    while let Some(published) = fields.f32() {
        let mut number = || fields.f32();
        let (said, model, stand_in) = (number()?, [number()?, number()?], [number()?, number()?]);
        let (fallback, regression) = (number()?, number()?);
        made.push(Made { published, said, model, stand_in, fallback, regression, challenger: f32::NAN });
    }
    Some((step, Sent { network, by, challenger: Box::default(), made }))
}

fn decode_spreads(value: &[u8], horizons: usize) -> Option<BTreeMap<Box<str>, Spreads>> {
    let mut fields = Reader::new(value)?;
    let mut spreads = BTreeMap::new();
    while let Some(id) = fields.text() {
        let mut own = vec![[(0.0, 0.0); REGIMES]; horizons];
        for pair in own.iter_mut().flatten() {
            *pair = (fields.f32()?, fields.f32()?);
        }
        spreads.insert(id.into(), own);
    }
    Some(spreads)
}
