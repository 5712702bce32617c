//! Where the registry's files lie, and what a path in it is.
//!
//! ```text
//! <root>/<version>/model.bin          the artifact: opaque bytes
//! <root>/<version>/metadata.json      written last: it makes the version exist, or abandons it
//! <root>/promotions/<number>.json     the truth of what is current: the highest number counts
//! <root>/CURRENT                      a copy of the newest promotion's essence
//! ```

use super::Version;

const PROMOTIONS: &str = "promotions";
const CURRENT: &str = "CURRENT";
const MODEL: &str = "model.bin";
const METADATA: &str = "metadata.json";
/// So that names sort as numbers do.
const DIGITS: usize = 10;

/// The paths of one registry.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: String,
}

/// What a file of the registry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum File {
    Model(Version),
    Metadata(Version),
    Promotion(u64),
    Current,
}

impl Layout {
    pub(super) fn new(root: &str) -> Self {
        Self { root: root.trim_end_matches('/').to_owned() }
    }

    pub(super) fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn promotions(&self) -> String {
        format!("{}/{PROMOTIONS}", self.root)
    }

    pub(super) fn current(&self) -> String {
        self.path(File::Current)
    }

    pub(super) fn version(&self, version: Version) -> String {
        format!("{}/{version}", self.root)
    }

    pub(super) fn path(&self, file: File) -> String {
        let root = &self.root;
        match file {
            File::Model(version) => format!("{root}/{version}/{MODEL}"),
            File::Metadata(version) => format!("{root}/{version}/{METADATA}"),
            File::Promotion(number) => format!("{root}/{PROMOTIONS}/{number:0DIGITS$}.json"),
            File::Current => format!("{root}/{CURRENT}"),
        }
    }

    /// `None` for what is not the registry's.
    pub(super) fn file(&self, path: &str) -> Option<File> {
        let below = path.strip_prefix(&self.root)?.strip_prefix('/')?;
        let file = match below.split_once('/') {
            None => File::Current,
            Some((PROMOTIONS, name)) if name.len() == DIGITS + ".json".len() => {
                File::Promotion(name.strip_suffix(".json")?.parse().ok()?)
            }
            Some((version, MODEL)) => File::Model(version.parse().ok()?),
            Some((version, _)) => File::Metadata(version.parse().ok()?),
        };
        (self.path(file) == path).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_and_nothing_else_is_the_registrys() {
        let layout = Layout::new("/models/speed/");
        for (file, path) in [
            (File::Model(Version::FIRST), "/models/speed/v1.0.0/model.bin"),
            (File::Metadata(Version::FIRST), "/models/speed/v1.0.0/metadata.json"),
            (File::Promotion(7), "/models/speed/promotions/0000000007.json"),
            (File::Promotion(9_999_999_999), "/models/speed/promotions/9999999999.json"),
            (File::Current, "/models/speed/CURRENT"),
        ] {
            assert_eq!(layout.path(file), path);
            assert_eq!(layout.file(path), Some(file));
        }
        for path in [
            "/models/speed",
            "/models/speed/",
            "/models/speed/current",
            "/models/speed/v1.0.0",
            "/models/speed/v1.0/model.bin",
            "/models/speed/v1.0.0/model.pkl",
            "/models/speed/v1.0.0/old/metadata.json",
            "/models/speed/promotions/7.json",
            "/models/speed/promotions/0000000007.txt",
            "/models/speed/promotions/+000000007.json",
            "/models/speed/promotions/18446744073709551615.json",
            "/models/speedy/CURRENT",
            "/elsewhere/CURRENT",
        ] {
            assert_eq!(layout.file(path), None, "{path}");
        }
    }
}
