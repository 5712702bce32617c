//! Brings events from a source into the log: keyed by segment, with watermark markers.

use std::time::Duration;

use anyhow::Result;
use common::clock::Clock;
use common::stream::{Outgoing, Producer, WATERMARK_HEADER};
use indicatif::{ProgressBar, ProgressStyle};

/// One event on its way into the log.
pub struct Item<'a> {
    pub key: Option<&'a [u8]>,
    pub value: &'a [u8],
    /// Event time, epoch ms; `None` for what does not parse.
    pub at_ms: Option<i64>,
}

/// Where events come from.
pub trait Source {
    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// If the source can not be read, with the place.
    fn next(&mut self) -> Result<Option<Item<'_>>>;

    /// The event time up to which everything has been given out.
    fn complete_ms(&self) -> Option<i64>;

    /// How much is done, of how much: for the progress bar.
    fn done(&self) -> (u64, u64);
}

/// How fast event time passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    Max,
    /// Times real time.
    Times(f64),
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.parse::<f64>().ok().filter(|t| *t > 0.0 && t.is_finite());
        times
            .map(Self::Times)
            .ok_or_else(|| format!("{text:?}: `max` or a number above 0 (times real time) is allowed"))
    }
}

/// Where to, and how fast.
pub struct Target<'a> {
    pub producer: &'a mut dyn Producer,
    pub topic: &'a str,
    pub partitions: u32,
    pub speed: Speed,
    pub clock: &'a dyn Clock,
    pub stop: &'a dyn Fn() -> bool,
}

const MARKER_EVERY_MS: i64 = 60_000;
const WINDOW_MS: i64 = 300_000;

/// Sends everything, a marker to each partition every minute of event time, and at the end a last one that closes
/// the window of the newest event. Returns the number of events.
///
/// # Errors
/// If the source can not be read or the log refuses.
pub fn feed(source: &mut dyn Source, target: &mut Target<'_>) -> Result<u64> {
    let bar = bar(source.done().1);
    let began_ms = target.clock.now_ms();
    let (mut sent, mut first_ms, mut newest_ms, mut marked_ms) = (0_u64, None, i64::MIN, i64::MIN);
    while !(target.stop)() {
        let Some(item) = source.next()? else { break };
        if let (Some(at_ms), Speed::Times(factor)) = (item.at_ms, target.speed) {
            let first_ms = *first_ms.get_or_insert(at_ms);
            wait(target, began_ms, at_ms - first_ms, factor)?;
        }
        newest_ms = newest_ms.max(item.at_ms.unwrap_or(i64::MIN));
        target.producer.send(&Outgoing {
            topic: target.topic,
            partition: None,
            key: item.key,
            value: Some(item.value),
            headers: &[],
        })?;
        sent += 1;
        if let Some(complete_ms) = source.complete_ms()
            && complete_ms >= marked_ms.saturating_add(MARKER_EVERY_MS)
        {
            marked_ms = complete_ms;
            mark(target, complete_ms)?;
        }
        if sent % 4_096 == 0 {
            bar.set_position(source.done().0);
        }
    }
    // Who was interrupted has more to send and must not say that this was all.
    if newest_ms > i64::MIN && !(target.stop)() {
        mark(target, (newest_ms.div_euclid(WINDOW_MS) + 1) * WINDOW_MS)?;
    }
    target.producer.flush()?;
    bar.finish_and_clear();
    Ok(sent)
}

fn mark(target: &mut Target<'_>, complete_ms: i64) -> Result<()> {
    let text = complete_ms.to_string();
    for partition in 0..target.partitions {
        target.producer.send(&Outgoing {
            topic: target.topic,
            partition: Some(partition),
            key: None,
            value: None,
            headers: &[(WATERMARK_HEADER, text.as_bytes())],
        })?;
    }
    Ok(())
}

/// Waits until event time may have passed so far.
fn wait(target: &mut Target<'_>, began_ms: i64, passed_ms: i64, factor: f64) -> Result<()> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "milliseconds")]
    let due_ms = began_ms + (passed_ms as f64 / factor) as i64;
    if target.clock.now_ms() < due_ms {
        target.producer.flush()?;
    }
    while target.clock.now_ms() < due_ms && !(target.stop)() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %  {elapsed_precise} (left {eta_precise})");
    bar.set_style(style.expect("the template is right"));
    bar
}
