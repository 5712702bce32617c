//! Promotions and what they decide: facts in, decision out, no I/O.
//!
//! Promotions are numbered from 1 without a gap, each created if absent; the highest says which version is current and
//! whether it is pinned. Each knows the promotion that a rollback goes back to, so that rolling back twice goes two
//! versions back, and a version that was rolled back from is not gone back to.

use serde::{Deserialize, Serialize};

use super::document::FORMAT;
use super::{RegistryError, Version};

/// Why a promotion is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody asked for it.
    Manual,
    /// It beat the current version.
    Automatic,
    /// Back to an earlier version, which is pinned.
    Rollback,
    /// Only takes the pin away.
    Unpin,
    /// Of a later program.
    #[serde(other)]
    Other,
}

/// One file below `promotions/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    pub format: u32,
    pub number: u64,
    pub kind: Kind,
    pub version: Version,
    /// Whether automatic promotion has to leave it.
    pub pinned: bool,
    /// The version that was current before.
    #[serde(default)]
    pub previous: Option<Version>,
    /// The promotion that a rollback goes back to.
    #[serde(default)]
    pub back_to: Option<u64>,
    /// Epoch ms.
    pub at: i64,
    pub by: String,
    #[serde(default)]
    pub reason: String,
}

/// Which version is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    pub version: Version,
    /// The number of the promotion that made it so.
    pub promotion: u64,
    /// Whether automatic promotion has to leave it.
    pub pinned: bool,
}

/// `CURRENT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CurrentFile {
    pub format: u32,
    #[serde(flatten)]
    pub current: Current,
}

impl CurrentFile {
    pub(super) fn new(current: Current) -> Self {
        Self { format: FORMAT, current }
    }
}

impl Promotion {
    #[must_use]
    pub fn current(&self) -> Current {
        Current { version: self.version, promotion: self.number, pinned: self.pinned }
    }
}

/// Who asks for a change, when and why.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    pub by: &'a str,
    pub reason: &'a str,
    /// Epoch ms.
    pub at_ms: i64,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Promote(Version),
    /// Provided that nobody has pinned or changed what is current.
    PromoteAutomatically {
        version: Version,
        expected: Option<Version>,
    },
    /// To a version, or the one that was current before.
    Rollback(Option<Version>),
    Unpin,
}

/// Why an automatic promotion was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{} is pinned by promotion {}; `traffic model unpin` lets it be replaced", .0.version, .0.promotion)]
    Pinned(Current),
    #[error(
        "the current version is {} and no longer {}, which the new one was compared with",
        .found.map_or("none".to_owned(), |v| v.to_string()),
        .expected.map_or("none".to_owned(), |v| v.to_string())
    )]
    Moved { expected: Option<Version>, found: Option<Version> },
}

/// What to do about a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is so already.
    Nothing(Current),
    Refuse(Refusal),
    /// Create this one, if its number is still free.
    Write(Promotion),
}

/// Decides by the newest promotion and those that it goes back to, newest first.
pub(super) fn decide(wish: Wish, trail: &[Promotion], order: &Order<'_>) -> Result<Step, RegistryError> {
    let last = trail.first();
    let write = |kind, version, pinned, back_to| {
        Step::Write(Promotion {
            format: FORMAT,
            number: last.map_or(1, |last| last.number + 1),
            kind,
            version,
            pinned,
            previous: last.map(|last| last.version),
            back_to,
            at: order.at_ms,
            by: order.by.to_owned(),
            reason: order.reason.to_owned(),
        })
    };
    let none = || RegistryError::Refused("no version is current yet; `traffic model promote` makes one so".to_owned());
    Ok(match (wish, last) {
        (Wish::Promote(version), Some(last)) if last.version == version && !last.pinned => {
            Step::Nothing(last.current())
        }
        (Wish::Promote(version), last) => write(Kind::Manual, version, false, back_to(version, last)),
        (Wish::PromoteAutomatically { version, expected }, last) => match last {
            Some(last) if last.pinned => Step::Refuse(Refusal::Pinned(last.current())),
            Some(last) if last.version == version => Step::Nothing(last.current()),
            last if last.map(|last| last.version) != expected => {
                Step::Refuse(Refusal::Moved { expected, found: last.map(|last| last.version) })
            }
            last => write(Kind::Automatic, version, false, back_to(version, last)),
        },
        (Wish::Rollback(_) | Wish::Unpin, None) => return Err(none()),
        (Wish::Unpin, Some(last)) if !last.pinned => Step::Nothing(last.current()),
        (Wish::Unpin, Some(last)) => write(Kind::Unpin, last.version, false, last.back_to),
        (Wish::Rollback(Some(version)), Some(last)) if last.version == version && last.pinned => {
            Step::Nothing(last.current())
        }
        (Wish::Rollback(Some(version)), Some(_)) => {
            let target = trail.iter().find(|promotion| promotion.version == version);
            write(Kind::Rollback, version, true, target.and_then(|target| target.back_to))
        }
        (Wish::Rollback(None), Some(last)) => match trail.iter().find(|earlier| earlier.version != last.version) {
            Some(target) => write(Kind::Rollback, target.version, true, target.back_to),
            None => {
                return Err(RegistryError::Refused(format!(
                    "there is no version before {} to go back to; name one: `traffic model rollback VERSION`",
                    last.version
                )));
            }
        },
    })
}

fn back_to(version: Version, last: Option<&Promotion>) -> Option<u64> {
    last.and_then(|last| if last.version == version { last.back_to } else { Some(last.number) })
}

/// Whether the decision about a wish needs the promotions that these go back to.
pub(super) fn goes_further_back(wish: Wish, trail: &[Promotion]) -> bool {
    let Some(last) = trail.first() else { return false };
    match wish {
        Wish::Rollback(Some(version)) => trail.iter().all(|promotion| promotion.version != version),
        Wish::Rollback(None) => trail.iter().all(|promotion| promotion.version == last.version),
        Wish::Promote(_) | Wish::PromoteAutomatically { .. } | Wish::Unpin => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(minor: u32) -> Version {
        Version { minor, ..Version::FIRST }
    }

    /// A history that wishes make; what it says of itself.
    #[derive(Default)]
    struct History(Vec<Promotion>);

    impl History {
        fn ask(&mut self, wish: Wish) -> Result<String, RegistryError> {
            let mut trail: Vec<Promotion> = self.0.last().cloned().into_iter().collect();
            while goes_further_back(wish, &trail)
                && let Some(number) = trail.last().and_then(|promotion| promotion.back_to)
            {
                trail.extend(self.0.iter().find(|promotion| promotion.number == number).cloned());
            }
            Ok(match decide(wish, &trail, &Order { by: "ada", reason: "", at_ms: 0 })? {
                Step::Nothing(_) => "nothing".to_owned(),
                Step::Refuse(refusal) => refusal.to_string(),
                Step::Write(promotion) => {
                    assert_eq!(promotion.number, self.0.len() as u64 + 1);
                    assert_eq!(promotion.previous, self.0.last().map(|last| last.version));
                    let said = format!("{}{}", promotion.version, if promotion.pinned { " pinned" } else { "" });
                    self.0.push(promotion);
                    said
                }
            })
        }

        fn say(&mut self, wish: Wish) -> String {
            self.ask(wish).unwrap_or_else(|error| error.to_string())
        }
    }

    fn automatic(version: u32, expected: Option<u32>) -> Wish {
        Wish::PromoteAutomatically { version: v(version), expected: expected.map(v) }
    }

    #[test]
    fn rolling_back_twice_goes_two_versions_back() {
        let mut history = History::default();
        for minor in 0..4 {
            assert_eq!(history.say(Wish::Promote(v(minor))), v(minor).to_string());
        }
        assert_eq!(history.say(Wish::Rollback(None)), "v1.2.0 pinned");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.1.0 pinned");
        // Not to v1.2.0, which was rolled back from: what was current before v1.1.0.
        assert_eq!(history.say(Wish::Promote(v(5))), "v1.5.0");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.1.0 pinned");
        assert_eq!(history.say(Wish::Unpin), "v1.1.0");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.0.0 pinned");
        assert!(history.say(Wish::Rollback(None)).contains("no version before v1.0.0"));
    }

    #[test]
    fn a_rollback_by_name_goes_on_from_where_that_version_was() {
        let mut history = History::default();
        (0..4).for_each(|minor| drop(history.say(Wish::Promote(v(minor)))));
        assert_eq!(history.say(Wish::Rollback(Some(v(1)))), "v1.1.0 pinned");
        assert_eq!(history.say(Wish::Rollback(Some(v(1)))), "nothing");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.0.0 pinned");
        // One that was never current has nothing before it.
        assert_eq!(history.say(Wish::Rollback(Some(v(9)))), "v1.9.0 pinned");
        assert!(history.say(Wish::Rollback(None)).contains("no version before v1.9.0"));
        // Naming the current one pins it where it is.
        history.say(Wish::Promote(v(5)));
        assert_eq!(history.say(Wish::Rollback(Some(v(5)))), "v1.5.0 pinned");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.9.0 pinned");
    }

    #[test]
    fn a_pin_holds_until_it_is_taken_away() {
        let mut history = History::default();
        assert_eq!(history.say(automatic(0, None)), "v1.0.0");
        assert_eq!(history.say(automatic(1, Some(0))), "v1.1.0");
        assert_eq!(history.say(Wish::Rollback(None)), "v1.0.0 pinned");
        assert!(history.say(automatic(2, Some(0))).contains("v1.0.0 is pinned by promotion 3"));
        assert_eq!(history.say(Wish::Unpin), "v1.0.0");
        assert_eq!(history.say(Wish::Unpin), "nothing");
        assert_eq!(history.say(automatic(2, Some(0))), "v1.2.0");
        history.say(Wish::Rollback(None));
        assert_eq!(history.say(Wish::Promote(v(0))), "v1.0.0", "promoting the pinned version takes its pin away");
        assert_eq!(history.say(Wish::Promote(v(0))), "nothing");
    }

    #[test]
    fn an_automatic_promotion_stands_back_from_what_has_moved() {
        let mut history = History::default();
        assert!(history.say(automatic(1, Some(0))).contains("is none and no longer v1.0.0"));
        history.say(Wish::Promote(v(3)));
        assert!(history.say(automatic(1, Some(0))).contains("is v1.3.0 and no longer v1.0.0"));
        assert!(history.say(automatic(1, None)).contains("is v1.3.0 and no longer none"));
        assert_eq!(history.say(automatic(3, Some(0))), "nothing", "asked again after a lost answer");
    }

    #[test]
    fn with_nothing_current_there_is_nothing_to_go_back_from() {
        let mut history = History::default();
        for wish in [Wish::Rollback(None), Wish::Rollback(Some(v(1))), Wish::Unpin] {
            assert!(history.say(wish).contains("no version is current yet"));
        }
    }
}
