//! Why the registry did not do what it was asked: what, which file, how to mend it.

use common::store::StoreError;

use super::Version;

/// By what the caller does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// The store is out of reach, or others were faster again and again: try again later. Whether a change was made
    /// is open; asking for it again is safe.
    #[error("{0}")]
    Retry(String),
    /// The store refuses, and trying again cannot help.
    #[error("{0}")]
    Fatal(String),
    /// No version of that number was ever published.
    #[error("there is no version {version} in {root}; {}", .newest.map_or("none was published yet".to_owned(), |v| format!("the newest is {v}")))]
    NoVersion { root: String, version: Version, newest: Option<Version> },
    /// A file is not as it must be.
    #[error("{file}: {flaw}; {}", .flaw.mend(*.version))]
    Flawed { version: Option<Version>, file: String, flaw: Flaw },
    /// What was asked for makes no sense as things are.
    #[error("{0}")]
    Refused(String),
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("is missing")]
    Missing,
    #[error("has more than {0} bytes, and a document of the registry has fewer")]
    TooLarge(u64),
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("has format {found}, this program knows up to {known}")]
    NewerFormat { found: u32, known: u32 },
    #[error("is a copy of {0}'s")]
    OfAnother(String),
    #[error("has {found} bytes, metadata.json says {expected}")]
    WrongSize { expected: u64, found: u64 },
    #[error("is damaged: its hash is {found}, metadata.json says {expected}")]
    WrongHash { expected: String, found: String },
    #[error("belongs to a model of format {found}, this program reads up to {known}")]
    NewerModel { found: u32, known: u32 },
    #[error("is not there: its publisher has not finished, or died")]
    Unfinished,
    #[error("says that the version was abandoned before it was finished")]
    Abandoned,
}

impl Flaw {
    fn mend(&self, version: Option<Version>) -> String {
        let another = "or use another version (`traffic model list`)";
        match (self, version) {
            (Self::NewerFormat { .. } | Self::NewerModel { .. }, _) => {
                format!("run the version of this program that wrote it, {another}")
            }
            (Self::Unfinished, _) => "wait for it, or clear it away with `traffic model tidy`".to_owned(),
            (Self::Abandoned, _) => "use another version (`traffic model list`)".to_owned(),
            (_, Some(_)) => format!("restore the file from a backup, {another}"),
            (_, None) => "restore the file from a backup, or remove it: the promotion before it counts then".to_owned(),
        }
    }
}

impl RegistryError {
    /// The version that cannot be used, where it is one's fault.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        match self {
            Self::NoVersion { version, .. } => Some(*version),
            Self::Flawed { version, .. } => *version,
            Self::Retry(_) | Self::Fatal(_) | Self::Refused(_) => None,
        }
    }
}

impl From<StoreError> for RegistryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retry(text) => Self::Retry(text),
            StoreError::Fatal(text) => Self::Fatal(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_version_file_flaw_and_remedy() {
        let version: Version = "v1.2.0".parse().expect("a version");
        let flawed =
            |flaw| RegistryError::Flawed { version: Some(version), file: "/m/v1.2.0/model.bin".to_owned(), flaw };
        assert_eq!(
            flawed(Flaw::WrongSize { expected: 10, found: 7 }).to_string(),
            "/m/v1.2.0/model.bin: has 7 bytes, metadata.json says 10; restore the file from a backup, or use another \
             version (`traffic model list`)"
        );
        let newer = flawed(Flaw::NewerFormat { found: 2, known: 1 }).to_string();
        assert!(newer.contains("has format 2, this program knows up to 1; run the version"), "{newer}");
        let none = RegistryError::NoVersion { root: "/m".to_owned(), version, newest: Some(Version::FIRST) };
        assert_eq!(none.to_string(), "there is no version v1.2.0 in /m; the newest is v1.0.0");
    }
}
