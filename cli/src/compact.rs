//! `traffic compact`: merges the files of closed hours, removes hours that are too old.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use common::archive::compaction::{Compacted, Compactor, Wish};
use common::archive::{ArchiveConfig, ArchiveError, register_hours};
use common::worker::Process;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use jiff::civil::Date;

use crate::units::duration_ms;
use crate::verify::Name;

const DAY_MS: i64 = 86_400_000;
/// How often a compaction that another process was faster with is begun anew.
const TRIES: usize = 5;

/// Merge the archive's small files, remove what is too old
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic compact                                  every closed hour with more than one file
  traffic compact --date 2026-09-21                one day
  traffic compact --date 2026-09-01..2026-09-30    a month
  traffic compact --dry-run                        what it would merge
  traffic compact --retain-days 90                 and remove what is older than 90 days, for good

Workers do the same by themselves (archive.compact_interval, archive.retain_days). Any number of them and of these
commands may run at once, and may be killed at any moment: whoever comes next finishes what was begun. Readers never
see a row twice; they miss an hour's rows for the moment in which its files are exchanged.")]
pub struct CompactArgs {
    /// Only these [default: all]
    #[arg(long = "dataset")]
    datasets: Vec<Name>,
    /// A day, or a first and a last one (UTC) [default: all]
    #[arg(long, value_parser = dates)]
    date: Option<RangeInclusive<Date>>,
    /// An hour is closed this long after its end
    #[arg(long, default_value = "1h", value_parser = duration_ms)]
    after: i64,
    /// Merge an hour's files from this many on
    #[arg(long, default_value_t = 2)]
    min_files: usize,
    /// Remove hours this long after their end, for good [default: archive.retain_days]
    #[arg(long)]
    retain_days: Option<u32>,
    /// Only say what would be merged
    #[arg(long)]
    dry_run: bool,
    /// A JSON object a dataset
    #[arg(long)]
    json: bool,
}

fn dates(text: &str) -> Result<RangeInclusive<Date>, String> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let date = |text: &str| text.parse::<Date>().map_err(|_| format!("{text:?} is no day; write it like 2026-09-21"));
    let (first, last) = (date(first)?, date(last)?);
    if last < first {
        return Err(format!("{last} is before {first}"));
    }
    Ok(first..=last)
}

pub fn run(args: &CompactArgs, process: &Process) -> Result<()> {
    let (store, topics) = (process.store()?, process.config.topics.names());
    let config = ArchiveConfig::from(&process.config.archive);
    let now_ms = process.clock.now_ms();
    let retain_days = args.retain_days.map_or(config.retain_days, u64::from);
    let wish = Wish {
        dates: args.date.clone(),
        closed_by_ms: now_ms.saturating_sub(args.after),
        min_files: args.min_files,
        retain_from_ms: (retain_days > 0)
            .then(|| now_ms.saturating_sub(i64::try_from(retain_days).unwrap_or(i64::MAX).saturating_mul(DAY_MS))),
    };
    for dataset in Name::chosen(&args.datasets) {
        let compactor = Compactor {
            store: &store,
            config: &config,
            dataset,
            topic: dataset.topic(&topics),
            now_ms: &|| process.clock.now_ms(),
            id: &|| uuid::Uuid::new_v4().simple().to_string(),
        };
        if args.dry_run {
            plan(&compactor, &wish, args.json, process)?;
        } else {
            let done = compact(&compactor, &wish, process).with_context(|| compactor.topic.to_owned())?;
            report(compactor.topic, &done, args.json)?;
            if retain_days > 0 {
                drop_hours(&compactor, process);
            }
        }
    }
    Ok(())
}

/// Does what is asked for; begins anew when another process was faster.
fn compact(compactor: &Compactor<'_>, wish: &Wish, process: &Process) -> Result<Compacted> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{msg:14} {bar:40} {bytes:>10} of {total_bytes} (left {eta})");
    bar.set_style(style.expect("the template is right"));
    let mut done = Compacted::default();
    for _ in 0..TRIES {
        let progress = &mut |progress: common::archive::compaction::Progress| {
            bar.set_length(progress.all_bytes);
            bar.set_position(progress.done_bytes);
            bar.set_message(progress.hour.to_string());
        };
        let outcome = process.runtime().block_on(compactor.run(wish, &mut done, progress));
        bar.finish_and_clear();
        match outcome {
            Ok(()) => return Ok(done),
            Err(ArchiveError::Retry(error)) => {
                tracing::warn!(error, "{error}; beginning anew");
                std::thread::sleep(Duration::from_secs(1));
            }
            Err(fatal) => return Err(fatal.into()),
        }
    }
    bail!("gave up after {TRIES} tries; what was merged until then is in its place, the next run goes on from there")
}

/// Takes what is gone out of the Hive metastore, if there is one. Where that fails the workers do it at their next look.
fn drop_hours(compactor: &Compactor<'_>, process: &Process) {
    let Some(catalogue) = process.hive() else { return };
    let Compactor { store, dataset, topic, .. } = compactor;
    let done = process.runtime().block_on(register_hours(&catalogue, store, *dataset, topic));
    if let Err(error) = done {
        tracing::warn!(topic, %error, "Hive metastore, {topic}: {error}; the workers drop the removed hours later");
    }
}

fn plan(compactor: &Compactor<'_>, wish: &Wish, json: bool, process: &Process) -> Result<()> {
    let planned = process.runtime().block_on(compactor.plan(wish))?;
    if json {
        let hours: Vec<_> = planned
            .iter()
            .map(|(hour, files, bytes)| serde_json::json!({"hour": hour.to_string(), "files": files, "bytes": bytes}))
            .collect();
        println!("{}", serde_json::json!({"topic": compactor.topic, "merges": hours}));
        return Ok(());
    }
    println!("{}: {} merges", compactor.topic, planned.len());
    for (hour, files, bytes) in planned {
        println!("  {hour}  {files:>5} files  {:>12}", HumanBytes(bytes).to_string());
    }
    Ok(())
}

fn report(topic: &str, done: &Compacted, json: bool) -> Result<()> {
    if json {
        let mut object = serde_json::to_value(done)?;
        object["topic"] = topic.into();
        println!("{object}");
        return Ok(());
    }
    println!(
        "{topic}: {} files of {} hours merged into {} ({} into {}, {} rows)",
        HumanCount(done.merged_files),
        HumanCount(done.hours),
        HumanCount(done.written_files),
        HumanBytes(done.merged_bytes),
        HumanBytes(done.written_bytes),
        HumanCount(done.rows)
    );
    if done.removed_files > 0 {
        println!("{topic}: {} files removed, {} rows", HumanCount(done.removed_files), HumanCount(done.removed_rows));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days() {
        let day = |text: &str| text.parse::<Date>().expect("a day");
        assert_eq!(dates("2026-09-21"), Ok(day("2026-09-21")..=day("2026-09-21")));
        assert_eq!(dates("2026-09-21..2026-10-01"), Ok(day("2026-09-21")..=day("2026-10-01")));
        assert!(dates("2026-13-01").expect_err("no such month").contains("2026-13-01"));
        assert!(dates("2026-09-21..2026-09-20").is_err());
    }
}
