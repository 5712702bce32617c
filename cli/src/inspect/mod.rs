//! `traffic inspect`: what a topic, a file or a directory of files holds.

mod parquet;
mod topic;

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use common::worker::Process;

/// Look into a topic, a Parquet file or a directory of them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic inspect topic traffic-events --limit 10 | jq .value
  traffic inspect topic traffic-events-dlq | jq -r .headers.reason | sort | uniq -c
  traffic inspect traffic-store/traffic-data/raw                a directory of this machine
  traffic inspect traffic-store/traffic-data/processed/aggregates
  traffic inspect part.parquet --limit 20
  traffic inspect /traffic-data/raw/date=2026-09-21             in the store, HDFS or not

Of each file: rows, size, the range of its times and offsets (partition:first-last); of the last one the columns too,
and some rows. A topic's committed records come as NDJSON: topic, partition, offset, timestamp, key, value, headers.")]
pub struct InspectArgs {
    /// `topic`, a file or a directory; what begins with /traffic-data is the store's
    what: PathBuf,
    /// With `topic`: its name
    name: Option<String>,
    /// Records or rows to show [default: all of a topic, 5 of a file]
    #[arg(long)]
    limit: Option<usize>,
}

pub fn run(args: &InspectArgs, process: &Process) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let done = if args.what.as_os_str() == "topic" {
        let Some(name) = &args.name else {
            bail!("inspect topic NAME: which one? Like `traffic inspect topic traffic-events`")
        };
        topic::topic(process.log()?.as_ref(), name, args.limit, &mut out)
    } else {
        parquet::inspect(&args.what, args.limit.unwrap_or(5), process, &mut out)
    };
    match done.and_then(|()| Ok(out.flush()?)) {
        // `| head` has seen enough.
        Err(error)
            if error.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            Ok(())
        }
        other => other,
    }
}
