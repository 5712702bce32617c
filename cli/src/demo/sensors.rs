//! The demo's sensors: the generator, whose position is committed in the same transaction as its events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use common::clock::Clock;
use common::stream::partitioner::partition_of;
use common::stream::{
    Cleanup, Log, LogError, Member, Membership, Outgoing, TopicPartition, TopicSpec, WATERMARK_HEADER,
};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::feed::Speed;
use crate::simulate::{Emission, Generator, GeneratorConfig, Position};

const APPLICATION: &str = "demo-sensors";
const STATE: &str = "demo-sensors-state";
const KEY: &[u8] = b"position";
/// Events in one transaction.
const BATCH: usize = 20_000;

/// What the sensors have committed: enough to go on after a kill -9.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub config: GeneratorConfig,
    pub position: Position,
    /// Events sent so far, markers not counted.
    pub events: u64,
}

pub struct Sensors {
    pub log: Arc<dyn Log>,
    pub clock: Arc<dyn Clock>,
    pub topic: String,
    pub config: GeneratorConfig,
    pub speed: Speed,
    /// Stop at this event time; `None`: never.
    pub until_ms: Option<i64>,
    /// Events sent, for whoever watches.
    pub sent: Arc<AtomicU64>,
}

/// What the sensors of this log have committed, if they ever ran.
///
/// # Errors
/// If the log does not answer or holds something else.
pub fn progress(log: &dyn Log) -> Result<Option<Progress>> {
    if log.partitions(STATE)?.is_none() {
        return Ok(None);
    }
    let mut newest = None;
    let mut reader = log.read(&TopicPartition::new(STATE, 0), None)?;
    while reader.next(&mut |record| newest = record.value.map(<[u8]>::to_vec))? {}
    Ok(newest.map(|bytes| serde_json::from_slice(&bytes)).transpose()?)
}

impl Sensors {
    /// Sends until event time reaches its end or `stop` says so.
    ///
    /// # Errors
    /// If the log refuses for good.
    pub fn run(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        let spec = TopicSpec { name: STATE.into(), partitions: 1, replication: 1, cleanup: Cleanup::Compact };
        self.log.ensure_topics(&[spec])?;
        while !stop() {
            match self.session(stop) {
                Ok(()) => return Ok(()),
                Err(error) => match error.downcast_ref::<LogError>() {
                    Some(LogError::Retry(why) | LogError::Unstable(why) | LogError::Fenced(why)) => {
                        warn!(error = %why, "the sensors lost the log; trying again");
                        std::thread::sleep(Duration::from_millis(500));
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn session(&self, stop: &dyn Fn() -> bool) -> Result<()> {
        let Some(partitions) = self.log.partitions(&self.topic)? else { bail!("topic {} does not exist", self.topic) };
        let mut member = self.log.join(&Membership {
            application_id: APPLICATION.into(),
            instance: "0".into(),
            inputs: Vec::new(),
            transactional: true,
        })?;
        let mut progress = progress(self.log.as_ref())?.unwrap_or_else(|| Progress {
            config: self.config.clone(),
            position: Generator::new(self.config.clone()).position(),
            events: 0,
        });
        let mut generator = Generator::resume(self.config.clone(), progress.position);
        self.sent.store(progress.events, Ordering::Relaxed);
        let (first_ms, began_ms) = (generator.now_ms(), self.clock.now_ms());
        let mut emission = Emission::default();
        while !stop() {
            let reached_ms = self.reached_ms(first_ms, began_ms);
            let mut sent = 0;
            while sent < BATCH && generator.now_ms() < reached_ms {
                generator.next(&mut emission);
                send_event(member.as_mut(), &self.topic, partitions, &emission)?;
                sent += 1;
                if let Some(up_to_ms) = generator.marker_due() {
                    send_markers(member.as_mut(), &self.topic, partitions, up_to_ms)?;
                }
            }
            if sent > 0 {
                progress.events += sent as u64;
                progress.position = generator.position();
                save(member.as_mut(), &progress)?;
                member.commit(&[])?;
                self.sent.store(progress.events, Ordering::Relaxed);
            } else if let Some(end_ms) = self.may_close(generator.now_ms()) {
                send_markers(member.as_mut(), &self.topic, partitions, end_ms)?;
                member.commit(&[])?;
                return Ok(());
            }
            if sent < BATCH {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The end of the last event's window, once all was sent and the clock has passed it: a marker ahead of the clock
    /// closes nothing. The next event may be much later, where all sensors are silent.
    fn may_close(&self, next_ms: i64) -> Option<i64> {
        let end_ms = self.until_ms.filter(|until_ms| next_ms >= *until_ms).map(window_end)?;
        (self.clock.now_ms() >= end_ms).then_some(end_ms)
    }

    /// The event time that may be sent by now: never ahead of the clock.
    fn reached_ms(&self, first_ms: i64, began_ms: i64) -> i64 {
        let now_ms = self.clock.now_ms();
        let reached_ms = match self.speed {
            Speed::Max => now_ms,
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds of a demo")]
            Speed::Times(factor) => first_ms + ((now_ms - began_ms) as f64 * factor) as i64,
        };
        reached_ms.min(now_ms).min(self.until_ms.unwrap_or(i64::MAX))
    }
}

/// The end of the window that this event time falls into, or the time itself where a window ends.
fn window_end(at_ms: i64) -> i64 {
    -(-at_ms).div_euclid(super::WINDOW_MS) * super::WINDOW_MS
}

fn send_event(member: &mut dyn Member, topic: &str, partitions: u32, emission: &Emission) -> Result<(), LogError> {
    member.send(&Outgoing {
        topic,
        partition: Some(partition_of(&emission.key, partitions)),
        key: Some(&emission.key),
        value: Some(&emission.value),
        headers: &[],
    })
}

fn send_markers(member: &mut dyn Member, topic: &str, partitions: u32, up_to_ms: i64) -> Result<(), LogError> {
    let text = up_to_ms.to_string();
    (0..partitions).try_for_each(|partition| {
        member.send(&Outgoing {
            topic,
            partition: Some(partition),
            key: None,
            value: None,
            headers: &[(WATERMARK_HEADER, text.as_bytes())],
        })
    })
}

fn save(member: &mut dyn Member, progress: &Progress) -> Result<()> {
    let value = serde_json::to_vec(progress)?;
    member.send(&Outgoing { topic: STATE, partition: Some(0), key: Some(KEY), value: Some(&value), headers: &[] })?;
    Ok(())
}
