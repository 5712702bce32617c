//! What a runner knows of a partition that it holds: how far it has read, and whether that is the end.

use super::log::END_CONFIRMATION;
use super::machine::Tick;

/// A partition number that is ours and restored.
pub(super) struct Held {
    /// By input: the next offset, once one is known.
    pub(super) positions: Vec<Option<i64>>,
    /// By input: whether the position moved since the last commit.
    pub(super) moved: Vec<bool>,
    /// By input: since when, and until when at least, the log has confirmed that we stand at the end.
    pub(super) ends: Vec<Option<(i64, i64)>>,
}

impl Held {
    pub(super) fn new(inputs: usize) -> Self {
        Self { positions: vec![None; inputs], moved: vec![false; inputs], ends: vec![None; inputs] }
    }

    /// The log has just confirmed that we stand at the end of an input.
    pub(super) fn confirm_end(&mut self, input: usize, now_ms: i64) {
        let unbroken = self.ends[input].filter(|(_, last)| is_fresh(*last, now_ms));
        self.ends[input] = Some((unbroken.map_or(now_ms, |(first, _)| first), now_ms));
    }

    /// Whether we stand at the end of every input.
    pub(super) fn at_end(&self, now_ms: i64) -> bool {
        self.ends.iter().all(|end| at_end_for_ms(*end, now_ms).is_some())
    }

    pub(super) fn tick(&self, now_ms: i64) -> Tick {
        let first = self.ends.first().copied().flatten();
        Tick { now_ms, at_end_for_ms: at_end_for_ms(first, now_ms) }
    }
}

/// For how long, by the log's own word, we have stood at an end.
fn at_end_for_ms(end: Option<(i64, i64)>, now_ms: i64) -> Option<i64> {
    let (since, confirmed) = end?;
    is_fresh(confirmed, now_ms).then_some(now_ms - since)
}

/// Whether a confirmation still holds. One from the future does not: the clock was set back since.
fn is_fresh(confirmed_ms: i64, now_ms: i64) -> bool {
    (0..=END_CONFIRMATION_MS * 3 / 2).contains(&(now_ms - confirmed_ms))
}

#[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
const END_CONFIRMATION_MS: i64 = END_CONFIRMATION.as_millis() as i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_believed_for_a_while_and_not_from_the_future() {
        let mut held = Held::new(1);
        held.confirm_end(0, 10_000);
        held.confirm_end(0, 20_000);
        assert_eq!(held.tick(30_000).at_end_for_ms, Some(20_000));
        assert_eq!(held.tick(35_001).at_end_for_ms, None, "nobody confirmed it any more");
        assert_eq!(held.tick(19_999).at_end_for_ms, None, "the clock was set back");
        held.confirm_end(0, 15_000);
        assert_eq!(held.tick(16_000).at_end_for_ms, Some(1_000), "and the silence begins anew");
    }
}
