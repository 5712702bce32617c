//! `traffic verify archive`: proves that the archive holds every committed record exactly once.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use common::archive::verify::{Report, verify};
use common::worker::Process;

/// Prove what must hold
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Archive(ArchiveArgs),
}

/// Every committed record is in exactly one file, and the manifests' ranges join
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic verify archive            reads every file's offsets and compares them with the log
  traffic verify archive --json     the report as one JSON object

Exits 1 if anything is missing, doubled, unreadable or not named by a manifest. Rows that retention has
already deleted from the log are checked among themselves.")]
struct ArchiveArgs {
    /// Do not compare with the log
    #[arg(long)]
    no_log: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &VerifyArgs, process: &Process) -> Result<()> {
    let What::Archive(args) = &args.what;
    let store = process.store()?;
    let topic = process.config.topics.names().events;
    let mut verification = process.runtime().block_on(verify(&store, &topic))?;
    if !args.no_log {
        verification.compare_with(process.log()?.as_ref())?;
    }
    let report = verification.report();
    if args.json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print(report);
    }
    if report.is_sound() {
        return Ok(());
    }
    bail!("the archive of {topic} is not sound: {} problems", report.problems.len() as u64 + report.more_problems)
}

fn print(report: &Report) {
    println!("{:>9} {:>14} {:>10} {:>14} {:>5}", "PARTITION", "ARCHIVED TO", "MANIFESTS", "ROWS", "GAPS");
    for p in &report.partitions {
        println!("{:>9} {:>14} {:>10} {:>14} {:>5}", p.partition, p.end, p.manifests, p.rows, p.gaps.len());
    }
    report.problems.iter().for_each(|problem| println!("problem: {problem}"));
    if report.more_problems > 0 {
        println!("… and {} more", report.more_problems);
    }
}
