//! How far a partition has come, and what partitions tell each other of it.
//!
//! The *watermark* W is a partition's own progress: it closes windows and judges the events that came to it
//! directly. Events that came to a wrong partition are forwarded through the log and may arrive long after
//! W has passed them, if this partition was read faster. So every partition announces its watermark to all
//! others, in the same topic and behind what it forwarded; the *horizon* H ≤ W is the least of them. Forwarded
//! events are judged by H, and a window is kept until H has left it.

/// A partition's progress. Times are epoch ms of event time; `i64::MIN` is "not yet".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// W: complete up to here, as far as this partition's own topic goes.
    pub watermark_ms: i64,
    /// The newest event or marker.
    pub newest_ms: i64,
    /// H: nothing older is kept. Never goes back.
    pub horizon_ms: i64,
    /// The watermark that was last announced to the others.
    pub announced_ms: i64,
    /// What the others announced, by partition number; [`UNCONSTRAINED`] for one without any event.
    pub frontier: Vec<i64>,
}

/// Announced by a partition that has long stood at its end and has never had an event.
pub const UNCONSTRAINED: i64 = i64::MAX;

impl Progress {
    pub fn new(partitions: u32) -> Self {
        Self {
            watermark_ms: i64::MIN,
            newest_ms: i64::MIN,
            horizon_ms: i64::MIN,
            announced_ms: i64::MIN,
            frontier: vec![i64::MIN; partitions as usize],
        }
    }

    /// Moves the watermark forward, never past `now_ms`; returns whether it moved.
    pub fn advance(&mut self, to_ms: i64, now_ms: i64) -> bool {
        let to_ms = to_ms.min(now_ms);
        let moved = to_ms > self.watermark_ms;
        if moved {
            self.watermark_ms = to_ms;
        }
        moved
    }

    /// Recomputes the horizon; returns whether it moved. A partition that is further behind than
    /// `max_skew_ms` is not waited for.
    pub fn raise_horizon(&mut self, own: u32, max_skew_ms: i64) -> bool {
        let others = self.frontier.iter().enumerate().filter(|(q, _)| *q != own as usize).map(|(_, w)| *w);
        let slowest_ms = others.min().unwrap_or(UNCONSTRAINED).min(self.watermark_ms);
        let to_ms = slowest_ms.max(self.watermark_ms.saturating_sub(max_skew_ms));
        let moved = to_ms > self.horizon_ms;
        if moved {
            self.horizon_ms = to_ms;
        }
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_horizon_is_the_slowest_partition_and_never_goes_back() {
        let mut progress = Progress::new(3);
        assert!(progress.advance(1_000, 5_000));
        assert!(!progress.advance(900, 5_000), "never back");
        progress.frontier = vec![i64::MIN, 700, i64::MIN];
        progress.raise_horizon(0, 100_000);
        assert_eq!(progress.horizon_ms, 1_000 - 100_000, "partition 2 was not heard of: only the skew bounds it");
        progress.frontier[2] = UNCONSTRAINED;
        assert!(progress.raise_horizon(0, 100_000));
        assert_eq!(progress.horizon_ms, 700);
        // One that was empty begins in the past.
        progress.frontier[2] = 300;
        assert!(!progress.raise_horizon(0, 100_000));
        assert_eq!(progress.horizon_ms, 700);
    }

    #[test]
    fn a_watermark_is_never_ahead_of_the_clock() {
        let mut progress = Progress::new(1);
        progress.advance(9_000, 5_000);
        assert_eq!(progress.watermark_ms, 5_000);
    }
}
