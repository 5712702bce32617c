//! One rule's time and episodes in one partition, and which of them the changelog does not know yet.

use std::collections::BTreeMap;

use common::stream::Outbox;

use crate::codec::{self, Key};
use crate::episode::Episode;
use crate::voice::Voice;

/// A rule's own time; it never goes back. `i64::MIN` is "not yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    pub now_ms: i64,
    /// Since when time has gone on without a jump.
    pub steady_since_ms: i64,
}

impl Time {
    pub const NOT_YET: Self = Self { now_ms: i64::MIN, steady_since_ms: i64::MIN };
}

#[derive(Debug)]
pub struct Table {
    time: Time,
    time_changed: bool,
    episodes: BTreeMap<Box<str>, Kept>,
    changed: bool,
}

#[derive(Debug, Default)]
struct Kept {
    episode: Episode,
    dirty: bool,
    /// Whether the changelog has an entry for it.
    stored: bool,
}

impl Table {
    pub fn new() -> Self {
        Self { time: Time::NOT_YET, time_changed: false, episodes: BTreeMap::new(), changed: false }
    }

    pub fn time(&self) -> Time {
        self.time
    }

    pub fn set_time(&mut self, time: Time) {
        self.time = time;
        self.time_changed = true;
    }

    pub fn restore_time(&mut self, time: Time) {
        self.time = time;
    }

    pub fn restore(&mut self, segment: &str, episode: Option<Episode>) {
        match episode {
            Some(episode) => {
                self.episodes.insert(segment.into(), Kept { episode, dirty: false, stored: true });
            }
            None => {
                self.episodes.remove(segment);
            }
        }
    }

    pub fn get(&self, segment: &str) -> Option<&Episode> {
        self.episodes.get(segment).map(|kept| &kept.episode)
    }

    /// Keeps `episode` as the segment's, if it is not what is kept already.
    pub fn put(&mut self, segment: &str, episode: Episode) {
        let kept = match self.episodes.get_mut(segment) {
            Some(kept) => kept,
            None => self.episodes.entry(segment.into()).or_default(),
        };
        if kept.episode != episode || !kept.stored {
            *kept = Kept { episode, dirty: true, stored: kept.stored };
            self.changed = true;
        }
    }

    /// Looks at every episode, in the order of segments, and drops those for which `keep` is false.
    pub fn sweep(
        &mut self,
        rule: &str,
        voice: &mut Voice<'_>,
        mut keep: impl FnMut(&str, &mut Episode, &mut Voice<'_>) -> bool,
    ) {
        let changed = &mut self.changed;
        self.episodes.retain(|segment, kept| {
            let before = kept.episode;
            let keeps = keep(segment, &mut kept.episode, voice);
            if keeps {
                kept.dirty |= kept.episode != before;
                *changed |= kept.dirty;
            } else if kept.stored {
                voice.delete(&Key::Episode { rule, segment });
            }
            keeps
        });
    }

    /// Forgets the segment's episode.
    pub fn remove(&mut self, rule: &str, segment: &str, voice: &mut Voice<'_>) {
        if self.episodes.remove(segment).is_some_and(|kept| kept.stored) {
            voice.delete(&Key::Episode { rule, segment });
        }
    }

    /// Puts what changed since the last time into the changelog.
    pub fn flush(&mut self, partition: u32, rule: &str, out: &mut Outbox) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        if std::mem::take(&mut self.time_changed) {
            Key::Time { rule }.encode(&mut key);
            codec::encode_time(&self.time, &mut value);
            out.put(partition, &key, &value);
        }
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for (segment, kept) in &mut self.episodes {
            if std::mem::take(&mut kept.dirty) {
                kept.stored = true;
                Key::Episode { rule, segment }.encode(&mut key);
                codec::encode_episode(&kept.episode, &mut value);
                out.put(partition, &key, &value);
            }
        }
    }
}
