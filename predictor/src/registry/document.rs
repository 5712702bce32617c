//! JSON documents as files: bounded, with a format number in front, and told from garbage.

use bytes::Bytes;
use common::store::{Creation, Store, StoreError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Flaw, RegistryError, Version};

/// The format of all documents that this program writes, and the newest that it reads. Fields may be added under the
/// same number; it is raised when a reader of the old one would misunderstand.
pub const FORMAT: u32 = 1;

/// More is no document of the registry.
const MOST_BYTES: u64 = 4 << 20;

/// A file's content, or enough of it to see that it is too large; `None` if there is no such file.
pub(super) async fn content(store: &Store, path: &str) -> Result<Option<Bytes>, RegistryError> {
    Ok(store.read_range(path, 0..MOST_BYTES + 1).await?)
}

pub(super) fn decode<T: DeserializeOwned>(
    path: &str,
    version: Option<Version>,
    content: &[u8],
) -> Result<T, RegistryError> {
    parse(content).map_err(|flaw| RegistryError::Flawed { version, file: path.to_owned(), flaw })
}

fn parse<T: DeserializeOwned>(content: &[u8]) -> Result<T, Flaw> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    if content.len() as u64 > MOST_BYTES {
        return Err(Flaw::TooLarge(MOST_BYTES));
    }
    let unreadable = |error: serde_json::Error| Flaw::Unreadable(error.to_string());
    let Head { format } = serde_json::from_slice(content).map_err(unreadable)?;
    if format > FORMAT {
        return Err(Flaw::NewerFormat { found: format, known: FORMAT });
    }
    serde_json::from_slice(content).map_err(unreadable)
}

pub(super) fn encode(document: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec_pretty(document).expect("a document of strings and numbers is JSON");
    text.push(b'\n');
    Bytes::from(text)
}

/// Who has a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    Won,
    Lost,
}

/// How often a creation whose answer was lost is tried before it is left open.
const TRIES: u32 = 3;

/// Creates a file unless its path is taken, and says whether it is there with this content. Where an answer is lost
/// it is read back.
pub(super) async fn claim(
    store: &Store,
    path: &str,
    content: &Bytes,
    is_own: impl Fn(&[u8]) -> bool,
) -> Result<Claim, RegistryError> {
    let mut lost = String::new();
    for _ in 0..TRIES {
        match store.create_if_absent(path, content.clone()).await {
            Ok(Creation::Created) => return Ok(Claim::Won),
            Ok(Creation::Exists) => {}
            Err(StoreError::Retry(error)) => lost = error,
            Err(fatal @ StoreError::Fatal(_)) => return Err(fatal.into()),
        }
        match store.read(path).await {
            Ok(Some(found)) => return Ok(if is_own(&found) { Claim::Won } else { Claim::Lost }),
            // Not there yet, or not any more.
            Ok(None) => {}
            Err(StoreError::Retry(error)) => lost = error,
            Err(fatal @ StoreError::Fatal(_)) => return Err(fatal.into()),
        }
    }
    Err(RegistryError::Retry(format!(
        "{path}: whether it was written is open: {lost}; ask again when the store answers"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Known {
        known: u32,
    }

    #[test]
    fn later_fields_are_passed_over_and_later_formats_refused() {
        let of = |text: &str| parse::<Known>(text.as_bytes());
        assert_eq!(of(r#"{"format":1,"known":2,"later":[3]}"#), Ok(Known { known: 2 }));
        assert_eq!(of(r#"{"format":2,"other":0}"#), Err(Flaw::NewerFormat { found: 2, known: 1 }));
        for garbage in ["", "{", "[]", "\u{0}", r#"{"known":2}"#, r#"{"format":-1,"known":2}"#, r#"{"format":1}"#] {
            assert!(matches!(of(garbage), Err(Flaw::Unreadable(_))), "{garbage}");
        }
        let large = vec![b' '; usize::try_from(MOST_BYTES).expect("small") + 1];
        assert_eq!(parse::<Known>(&large), Err(Flaw::TooLarge(MOST_BYTES)));
    }
}
