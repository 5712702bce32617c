//! A version's number: `v<major>.<minor>.<patch>`, as messages have it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Written in one way only, so that a directory's name and a version are the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// Which part of the number a new version raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bump {
    Major,
    #[default]
    Minor,
    Patch,
}

/// Not the number of a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version; versions are written like v1.4.0")]
pub struct NoVersionNumber(String);

impl Version {
    /// What the first model gets.
    pub const FIRST: Self = Self { major: 1, minor: 0, patch: 0 };

    /// The number after this one; `None` when there are no more.
    #[must_use]
    pub fn next(self, bump: Bump) -> Option<Self> {
        let Self { major, minor, patch } = self;
        Some(match bump {
            Bump::Major => Self { major: major.checked_add(1)?, minor: 0, patch: 0 },
            Bump::Minor => Self { major, minor: minor.checked_add(1)?, patch: 0 },
            Bump::Patch => Self { major, minor, patch: patch.checked_add(1)? },
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("v{}.{}.{}", self.major, self.minor, self.patch))
    }
}

impl FromStr for Version {
    type Err = NoVersionNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = || {
            let mut parts = text.strip_prefix('v')?.split('.').map(|part| part.parse::<u32>().ok());
            let version = Self { major: parts.next()??, minor: parts.next()??, patch: parts.next()?? };
            // `v01.0.0` and `v+1.0.0` would be a second name of v1.0.0.
            (parts.next().is_none() && version.to_string() == text).then_some(version)
        };
        numbers().ok_or_else(|| NoVersionNumber(text.to_owned()))
    }
}

impl TryFrom<String> for Version {
    type Error = NoVersionNumber;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_in_one_way() {
        for text in ["v0.1.0", "v1.0.0", "v10.20.30", "v4294967295.0.0"] {
            assert_eq!(text.parse::<Version>().map(|v| v.to_string()).as_deref(), Ok(text));
        }
        for text in
            ["", "v", "1.0.0", "v1.0", "v1.0.0.0", "v01.0.0", "v+1.0.0", "v1.0.0-rc1", "V1.0.0", "v1.0.4294967296"]
        {
            assert_eq!(text.parse::<Version>(), Err(NoVersionNumber(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn numbers_grow_as_numbers() {
        let v = |text: &str| text.parse::<Version>().expect("a version");
        assert!(v("v1.9.0") < v("v1.10.0"));
        assert_eq!(v("v1.4.2").next(Bump::Major), Some(v("v2.0.0")));
        assert_eq!(v("v1.4.2").next(Bump::Minor), Some(v("v1.5.0")));
        assert_eq!(v("v1.4.2").next(Bump::Patch), Some(v("v1.4.3")));
        assert_eq!(v("v1.4294967295.0").next(Bump::Minor), None);
    }
}
