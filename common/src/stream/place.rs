//! Up to where in the inputs a partition's state has come: an entry of the changelog that every commit renews, in the
//! transaction that commits the same offsets.
//!
//! So a group and its changelog always agree. Where they do not, or where an input ends before the offset that was
//! committed, somebody has deleted something, made it again, or moved offsets by hand: whatever one did then would
//! read events twice or leave some out, and nobody would hear of it. It is refused.

use tracing::error;

use super::log::{Ends, LogError, TopicPartition};

/// The entry's key; a machine's keys do not begin with a zero.
pub(super) const KEY: &[u8] = b"\0place";

const VERSION: u8 = 1;
const NOWHERE: i64 = -1;

/// The entry's value: by input the next offset.
pub(super) fn encode(positions: &[Option<i64>]) -> Vec<u8> {
    let offsets = positions.iter().flat_map(|position| position.unwrap_or(NOWHERE).to_be_bytes());
    std::iter::once(VERSION).chain(offsets).collect()
}

/// `None` for what a later version wrote.
pub(super) fn decode(value: &[u8]) -> Option<Vec<Option<i64>>> {
    let (&VERSION, offsets) = value.split_first()? else { return None };
    let offsets = offsets.chunks_exact(8).map(|bytes| i64::from_be_bytes(bytes.try_into().expect("eight bytes")));
    Some(offsets.map(|offset| (offset != NOWHERE).then_some(offset)).collect())
}

/// What is known of an input's partition when it is taken over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub input: &'a TopicPartition,
    pub group: &'a str,
    /// The group's offset.
    pub committed: Option<i64>,
    /// The changelog, if there is one, and what it says of this input.
    pub changelog: Option<(&'a TopicPartition, Option<i64>)>,
    pub ends: Ends,
}

impl Found<'_> {
    /// From where to read on: `None` is the first record kept.
    ///
    /// # Errors
    /// `Fatal` if group, changelog and input contradict each other.
    pub fn start(&self) -> Result<Option<i64>, LogError> {
        if let Some((changelog, state)) = self.changelog
            && state != self.committed
        {
            return Err(self.refusal(&match (self.committed, state) {
                (Some(committed), None) => {
                    format!("stands at offset {committed}, but {changelog} knows nothing of that: it was emptied or made again")
                }
                (None, Some(state)) => format!(
                    "has no offset, but {changelog} holds the state up to offset {state}: {} was deleted and made again, \
                     or the group's offsets have expired or been deleted",
                    self.input.topic
                ),
                (committed, state) => format!(
                    "stands at offset {}, but {changelog} holds the state up to offset {}: one of them was changed or brought back",
                    committed.unwrap_or(NOWHERE),
                    state.unwrap_or(NOWHERE)
                ),
            }));
        }
        let Some(committed) = self.committed else { return Ok(None) };
        let Ends { first, high, .. } = self.ends;
        if committed > high {
            return Err(self.refusal(&format!(
                "stands at offset {committed}, but the partition ends at {high}: the topic was made again or has lost records"
            )));
        }
        if committed < first {
            let lost = first - committed;
            error!(
                partition = %self.input, committed, first, lost,
                "{} of group {}: the offsets from {committed} to {first} were deleted before they were read, for good; going on \
                 behind them. Keep records longer (topics.retention) or let workers stand still for less long",
                self.input, self.group
            );
            return Ok(Some(first));
        }
        Ok(Some(committed))
    }

    fn refusal(&self, what: &str) -> LogError {
        let Self { input, group, .. } = self;
        LogError::Fatal(format!(
            "{input}: group {group} {what}. Going on would leave records out or count them twice. To begin anew with the \
             records that are there, run all instances under another application id (--application-id, \
             TRAFFIC_APPLICATION_ID); if something was moved by mistake, bring it back"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(committed: Option<i64>, state: Option<i64>, first: i64, high: i64) -> Result<Option<i64>, String> {
        let (input, changelog) = (TopicPartition::new("traffic-events", 3), TopicPartition::new("aggregator-state", 3));
        let changelog = Some((&changelog, state));
        let ends = Ends { first, high, stable: high };
        let found = Found { input: &input, group: "aggregator", committed, changelog, ends };
        found.start().map_err(|error| {
            assert!(matches!(error, LogError::Fatal(_)), "{error}");
            error.to_string()
        })
    }

    #[test]
    fn what_agrees_goes_on() {
        assert_eq!(start(None, None, 0, 0), Ok(None));
        assert_eq!(start(None, None, 5, 9), Ok(None));
        assert_eq!(start(Some(7), Some(7), 0, 7), Ok(Some(7)));
    }

    #[test]
    fn what_retention_took_is_left_behind() {
        assert_eq!(start(Some(7), Some(7), 9, 20), Ok(Some(9)));
        assert_eq!(start(Some(7), Some(7), 9, 9), Ok(Some(9)));
    }

    #[test]
    fn contradictions_are_refused_with_the_way_out() {
        for (committed, state, high, telling) in [
            (Some(7), Some(7), 6, "ends at 6"),
            (Some(7), None, 9, "emptied"),
            (None, Some(7), 9, "deleted and made again"),
            (Some(6), Some(7), 9, "up to offset 7"),
        ] {
            let error = start(committed, state, 0, high).expect_err(telling);
            for part in [telling, "traffic-events-3", "group aggregator", "application id"] {
                assert!(error.contains(part), "{part} is missing in: {error}");
            }
        }
    }

    #[test]
    fn the_entry_is_read_back() {
        for positions in [vec![], vec![None], vec![Some(0), None, Some(i64::MAX)]] {
            assert_eq!(decode(&encode(&positions)), Some(positions));
        }
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(&[2, 0]), None);
    }
}
