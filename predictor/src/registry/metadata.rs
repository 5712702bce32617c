//! `metadata.json`: everything that is known of a version but its bytes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::document::{self, FORMAT, encode};
use super::{Flaw, RegistryError, Version};
use crate::forecast::STEP_MS;

/// The one model that there is: the speed of road segments.
pub const MODEL_NAME: &str = "speed";
/// Histogram gradient boosting, as messages name it.
pub const GRADIENT_BOOSTING: &str = "GRADIENT_BOOSTING";
/// Among [`Description::tags`]: better than its parent on the days held out, and to be compared with it live.
pub const CHALLENGER: &str = "challenger";
/// Keys of [`Description::baselines`]. The last value known …
pub const LAST_VALUE: &str = "last_value";
/// … the mean of that time of week …
pub const HISTORICAL_AVERAGE: &str = "historical_average";
/// … and linear regression on own lags and profile.
pub const LINEAR: &str = "linear";

/// What the trainer says of its model. Speeds are km/h, times epoch ms.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Description {
    /// As messages have it: [`GRADIENT_BOOSTING`].
    pub model_type: String,
    pub created_at: i64,
    /// The instance, or the person.
    pub created_by: String,
    /// The version that it was fitted to replace.
    pub parent_version: Option<Version>,
    pub description: String,
    pub tags: Vec<String>,
    /// What it was fitted on.
    pub training_data: Data,
    /// What it was judged on.
    pub held_out_data: Data,
    /// Minutes ahead, ascending.
    pub horizons_minutes: Vec<u32>,
    /// Length of a window.
    pub step_minutes: u32,
    pub speed_unit: String,
    pub features: Vec<String>,
    pub hyperparameters: Map<String, Value>,
    /// On the held-out data, a score a horizon.
    pub metrics: Vec<Score>,
    /// The same of simpler forecasts, by name: [`LAST_VALUE`], [`HISTORICAL_AVERAGE`], [`LINEAR`].
    pub baselines: BTreeMap<String, Vec<Score>>,
    pub fit_seconds: f64,
    /// The program that fitted it.
    pub code_version: String,
    /// The number of the artifact's format.
    pub model_format: u32,
}

/// A range of aggregates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// The first window's start.
    pub first: i64,
    /// The last window's end.
    pub last: i64,
    pub rows: u64,
    pub segments: u64,
    /// Tells other data from this, in a form that is the trainer's affair.
    pub hash: String,
}

/// How good forecasts were at one horizon; absent where it was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Score {
    pub horizon_minutes: u32,
    pub n: u64,
    pub mae_kmh: f64,
    pub rmse_kmh: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mape_percent: Option<f64>,
    /// Share of truths within the 80 % interval, and its mean width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_80: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width_80_kmh: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage_90: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width_90_kmh: Option<f64>,
}

/// A published version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// Of this document.
    pub format: u32,
    pub name: String,
    pub version: Version,
    /// Tells this publication from every other.
    pub version_id: String,
    pub model_size_bytes: u64,
    /// `sha256:` and 64 hexadecimal digits.
    pub model_hash: String,
    #[serde(flatten)]
    pub description: Description,
}

/// What `metadata.json` holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Abandoned(Abandonment),
    Published(Box<Metadata>),
}

impl Entry {
    pub(super) fn decode(path: &str, version: Version, content: &[u8]) -> Result<Self, RegistryError> {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            abandoned: Option<Abandonment>,
        }
        let Head { abandoned } = document::decode(path, Some(version), content)?;
        if let Some(abandoned) = abandoned {
            return Ok(Self::Abandoned(abandoned));
        }
        let metadata: Metadata = document::decode(path, Some(version), content)?;
        if (metadata.version, metadata.name.as_str()) != (version, MODEL_NAME) {
            let flaw = Flaw::OfAnother(format!("{} {}", metadata.name, metadata.version));
            return Err(RegistryError::Flawed { version: Some(version), file: path.to_owned(), flaw });
        }
        Ok(Self::Published(Box::new(metadata)))
    }
}

/// Takes the place of metadata: the version will never exist, its publisher has to take another number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tombstone {
    pub format: u32,
    pub abandoned: Abandonment,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Abandonment {
    pub at: i64,
    pub by: String,
}

/// `sha256:` and the hash in hexadecimal.
#[must_use]
pub fn hash_of(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Metadata {
    /// The last step that the model was fitted to or its errors were measured on.
    #[must_use]
    pub fn seen_until(&self) -> i64 {
        self.description.training_data.last.max(self.description.held_out_data.last) / STEP_MS
    }

    /// Of a model that gets `version`.
    ///
    /// # Errors
    /// If it would not read back: a number that is none.
    pub(super) fn new(version: Version, model: &Fingerprint, description: &Description) -> Result<Self, RegistryError> {
        let metadata = Self {
            format: FORMAT,
            name: MODEL_NAME.to_owned(),
            version,
            version_id: model.id_with(description),
            model_size_bytes: model.size_bytes,
            model_hash: model.hash.clone(),
            description: description.clone(),
        };
        match serde_json::from_slice::<Self>(&encode(&metadata)) {
            Ok(back) if back == metadata => Ok(metadata),
            _ => Err(RegistryError::Refused(
                "the description of the model would not read back as it is: a score or fit_seconds is not a number"
                    .to_owned(),
            )),
        }
    }
}

/// What tells a model's bytes from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub size_bytes: u64,
    pub hash: String,
}

impl Fingerprint {
    pub(super) fn of(model: &[u8]) -> Self {
        Self { size_bytes: model.len() as u64, hash: hash_of(model) }
    }

    /// The same bytes with the same description are the same publication: to publish again after a lost answer does
    /// not make a second version.
    fn id_with(&self, description: &Description) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.hash.as_bytes());
        hasher.update(encode(description));
        hex(&hasher.finalize()[..16])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_that_sha256sum_prints() {
        let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_of(b"abc"), abc);
    }

    #[test]
    fn what_would_not_read_back_is_not_written() {
        let model = Fingerprint::of(b"model");
        let mut description = Description { fit_seconds: 0.1 + 0.2, ..Description::default() };
        assert!(Metadata::new(Version::FIRST, &model, &description).is_ok());
        description.metrics = vec![Score { mae_kmh: f64::NAN, ..Score::default() }];
        let error = Metadata::new(Version::FIRST, &model, &description).expect_err("not a number");
        assert!(matches!(error, RegistryError::Refused(text) if text.contains("not a number")));
    }

    #[test]
    fn a_publication_is_known_by_its_bytes_and_description() {
        let (one, other) = (Fingerprint::of(b"one"), Fingerprint::of(b"other"));
        let (early, late) = (Description::default(), Description { created_at: 1, ..Description::default() });
        assert_eq!(one.id_with(&early), one.clone().id_with(&early.clone()));
        assert_ne!(one.id_with(&early), one.id_with(&late));
        assert_ne!(one.id_with(&early), other.id_with(&early));
    }
}
