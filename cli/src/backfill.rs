//! `traffic backfill`: counts archived events anew and writes the aggregates that come out larger.

use std::collections::HashMap;
use std::time::Duration;

use aggregator::{Recount, Settings};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use common::archive::layout::{Hour, Table};
use common::archive::read::{Rows, read_hour};
use common::archive::{ArchiveError, Dataset};
use common::store::Store;
use common::stream::{Member, Membership, Outgoing};
use common::worker::Process;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

/// Names the transactions.
const APPLICATION: &str = "backfill";
/// What the workers may still be counting and archiving themselves.
const PRESENT_MS: i64 = 3_600_000;
const TRIES: usize = 5;

/// Count archived events anew, and write the aggregates that come out larger
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic backfill --from 2026-09-21T00:00Z --to 2026-09-22T00:00Z
  traffic backfill --from 2026-09-21T00:00Z --to 2026-09-22T00:00Z --dry-run --json

The raw archive holds every event, those too that came too late for their window. Each hour's events are counted by the
aggregator's own code and compared with the archived aggregates; one that is missing, or has counted fewer events, is
written to the topic of aggregates: the same id, a larger event_count, which is how corrections are told. An hour's
corrections are one transaction. Where nothing was late, nothing is written. Run again at once, before what was written is
archived, it may write the same corrections once more.")]
pub struct BackfillArgs {
    /// The first window's start, RFC 3339
    #[arg(long)]
    from: Timestamp,
    /// The last window's end; at the latest an hour ago
    #[arg(long)]
    to: Timestamp,
    /// Only say what would be written
    #[arg(long)]
    dry_run: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Default, Serialize)]
struct Outcome {
    hours: u64,
    events: u64,
    duplicates: u64,
    windows: u64,
    /// Of them with as many events as the archived aggregate.
    equal: u64,
    corrected: u64,
    missing: u64,
    /// Fewer events than the archived aggregate: the raw archive is not whole, or was read elsewhere.
    fewer: u64,
}

pub fn run(args: &BackfillArgs, process: &Process) -> Result<()> {
    let (from_ms, to_ms) = (args.from.as_millisecond(), args.to.as_millisecond());
    ensure!(from_ms < to_ms, "--from {} is not before --to {}", args.from, args.to);
    ensure!(
        to_ms <= process.clock.now_ms() - PRESENT_MS,
        "--to {}: the last hour is the workers' own; its windows may still take events",
        args.to
    );
    let store = process.store()?;
    let topics = process.config.topics.names();
    let settings = Settings::from(&process.config);
    let mut writer = if args.dry_run { None } else { Some(Writer::new(process, &topics.aggregates)?) };
    let (mut hour, last) = (Hour::of_ms(from_ms), Hour::of_ms(to_ms - 1));
    let bar = ProgressBar::new(u64::try_from((last.end_ms() - hour.start_ms()) / 3_600_000).unwrap_or(0));
    let style = ProgressStyle::with_template("{msg:14} {bar:40} {pos} of {len} hours (left {eta})");
    bar.set_style(style.expect("the template is right"));
    let mut outcome = Outcome::default();
    while hour <= last {
        ensure!(!process.shutdown.requested(), "stopped before {hour}; the hours before are done");
        bar.set_message(hour.to_string());
        let counted =
            retried(|| process.runtime().block_on(count(&store, &settings, &topics.events, &topics.aggregates, hour)))
                .with_context(|| hour.to_string())?;
        counted.compare(from_ms..to_ms, &mut outcome, |segment, aggregate| match &mut writer {
            Some(writer) => writer.send(segment, aggregate),
            None => Ok(()),
        })?;
        if let Some(writer) = &mut writer {
            writer.commit().with_context(|| hour.to_string())?;
        }
        bar.inc(1);
        hour = hour.next();
    }
    bar.finish_and_clear();
    report(&outcome, args)
}

/// Tries again where files were compacted away meanwhile.
fn retried<T>(work: impl Fn() -> Result<T, ArchiveError>) -> Result<T> {
    for _ in 1..TRIES {
        match work() {
            Err(ArchiveError::Retry(error)) => {
                tracing::warn!(error, "{error}; beginning the hour anew");
                std::thread::sleep(Duration::from_secs(1));
            }
            other => return Ok(other?),
        }
    }
    Ok(work()?)
}

/// An hour of events, counted, beside what is archived of it.
struct Counted {
    recount: Recount,
    events: u64,
    /// Events counted by window and segment, in the newest archived aggregate.
    archived: HashMap<(i64, String), u64>,
}

async fn count(
    store: &Store,
    settings: &Settings,
    events_topic: &str,
    aggregates_topic: &str,
    hour: Hour,
) -> Result<Counted, ArchiveError> {
    let mut counted = Counted { recount: Recount::new(settings.clone()), events: 0, archived: HashMap::new() };
    read_hour(store, Table::Accepted(Dataset::Events), events_topic, hour, &mut |batch| {
        for event in Rows(batch).events() {
            counted.recount.add(&event);
            counted.events += 1;
        }
        Ok(())
    })
    .await?;
    let archived = &mut counted.archived;
    read_hour(store, Table::Accepted(Dataset::Aggregates), aggregates_topic, hour, &mut |batch| {
        let rows = Rows(batch);
        let segments = rows.text("segment_id");
        let starts = rows.numbers::<arrow::datatypes::TimestampMillisecondType>("window_start");
        let counts = rows.numbers::<arrow::datatypes::Int64Type>("event_count");
        for row in 0..batch.num_rows() {
            let count = archived.entry((starts.value(row), segments.value(row).to_owned())).or_default();
            *count = (*count).max(u64::try_from(counts.value(row)).unwrap_or(0));
        }
        Ok(())
    })
    .await?;
    Ok(counted)
}

impl Counted {
    /// Hands on the aggregates that are missing or larger; `send` gets segment and message.
    fn compare(
        mut self,
        windows: std::ops::Range<i64>,
        outcome: &mut Outcome,
        mut send: impl FnMut(&str, &[u8]) -> Result<()>,
    ) -> Result<()> {
        outcome.hours += 1;
        outcome.events += self.events;
        outcome.duplicates += self.recount.duplicates;
        let (archived, mut failure) = (&self.archived, None);
        self.recount.aggregates(|aggregate| {
            if !windows.contains(&aggregate.window_start) || aggregate.window_end > windows.end || failure.is_some() {
                return;
            }
            outcome.windows += 1;
            match archived.get(&(aggregate.window_start, aggregate.segment_id.to_string())) {
                Some(count) if *count == aggregate.event_count => outcome.equal += 1,
                Some(count) if *count > aggregate.event_count => outcome.fewer += 1,
                known => {
                    let which = if known.is_some() { &mut outcome.corrected } else { &mut outcome.missing };
                    *which += 1;
                    let message = serde_json::to_vec(aggregate).expect("an aggregate is numbers and plain text");
                    failure = send(&aggregate.segment_id, &message).err();
                }
            }
        });
        failure.map_or(Ok(()), Err)
    }
}

/// Writes corrections, an hour a transaction.
struct Writer {
    member: Box<dyn Member>,
    topic: String,
}

impl Writer {
    fn new(process: &Process, topic: &str) -> Result<Self> {
        let membership = Membership {
            application_id: APPLICATION.to_owned(),
            instance: process.config.instance.clone(),
            inputs: Vec::new(),
            transactional: true,
        };
        Ok(Self { member: process.log()?.join(&membership)?, topic: topic.to_owned() })
    }

    fn send(&mut self, segment: &str, message: &[u8]) -> Result<()> {
        let key = Some(segment.as_bytes());
        let record = Outgoing { topic: &self.topic, partition: None, key, value: Some(message), headers: &[] };
        Ok(self.member.send(&record)?)
    }

    fn commit(&mut self) -> Result<()> {
        Ok(self.member.commit(&[])?)
    }
}

fn report(outcome: &Outcome, args: &BackfillArgs) -> Result<()> {
    if args.json {
        println!("{}", serde_json::to_string(outcome)?);
        return Ok(());
    }
    let Outcome { hours, events, duplicates, windows, equal, corrected, missing, fewer } = outcome;
    println!(
        "{} hours, {} events ({} of them twice), {} windows of segments",
        HumanCount(*hours),
        HumanCount(*events),
        HumanCount(*duplicates),
        HumanCount(*windows)
    );
    let verb = if args.dry_run { "would be written" } else { "written" };
    println!(
        "{} as archived, {} corrections and {} that were missing {verb}",
        HumanCount(*equal),
        HumanCount(*corrected),
        HumanCount(*missing)
    );
    if *fewer > 0 {
        println!(
            "{} archived aggregates have counted more events than the raw archive holds: see `traffic verify archive`",
            HumanCount(*fewer)
        );
    }
    Ok(())
}
