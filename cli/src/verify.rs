//! `traffic verify archive`: proves that the archive holds every committed record exactly once.

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use common::archive::Dataset;
use common::archive::verify::{Report, repair, verify};
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
  traffic verify archive                         events, aggregates and predictions: reads every file's offsets
                                                 and compares them with the log
  traffic verify archive --dataset aggregates    one of them
  traffic verify archive --repair                finishes first what a crash left half done; the workers do so
                                                 themselves when they come back, so this is for when they do not
  traffic verify archive --json | jq .problems   a report a dataset, each a JSON object on a line of its own

Exits 1 if anything is missing, doubled, unreadable or not named by a manifest. Rows that retention has
already deleted from the log are checked among themselves.")]
struct ArchiveArgs {
    /// Only these [default: all]
    #[arg(long = "dataset")]
    datasets: Vec<Name>,
    /// First finish commits and compactions that a crash left half done, and remove what no commit can name any more
    #[arg(long)]
    repair: bool,
    /// Do not compare with the log
    #[arg(long)]
    no_log: bool,
    /// A JSON object a dataset
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Name {
    Events,
    Aggregates,
    Predictions,
}

impl Name {
    /// All of them if none is named.
    pub fn chosen(names: &[Self]) -> impl Iterator<Item = Dataset> {
        let names = if names.is_empty() { Self::value_variants() } else { names };
        names.iter().map(|name| (*name).into())
    }
}

impl From<Name> for Dataset {
    fn from(name: Name) -> Self {
        match name {
            Name::Events => Self::Events,
            Name::Aggregates => Self::Aggregates,
            Name::Predictions => Self::Predictions,
        }
    }
}

pub fn run(args: &VerifyArgs, process: &Process) -> Result<()> {
    let What::Archive(args) = &args.what;
    let mut unsound = Vec::new();
    for dataset in Name::chosen(&args.datasets) {
        let report = report(args, dataset, process)?;
        if args.json {
            println!("{}", serde_json::to_string(&report)?);
        } else {
            print(&report);
        }
        if !report.is_sound() {
            unsound.push(format!("{}: {}", report.topic, report.problems.len() as u64 + report.more_problems));
        }
    }
    if unsound.is_empty() { Ok(()) } else { bail!("the archive is not sound; problems of {}", unsound.join(", ")) }
}

fn report(args: &ArchiveArgs, dataset: Dataset, process: &Process) -> Result<Report> {
    let (store, topics) = (process.store()?, process.config.topics.names());
    let topic = dataset.topic(&topics);
    if args.repair {
        let repaired = process.runtime().block_on(repair(&store, topic))?;
        if !args.json {
            println!("{topic}: {repaired}");
        }
    }
    let mut verification = process.runtime().block_on(verify(&store, dataset, topic))?;
    if !args.no_log {
        verification.compare_with(process.log()?.as_ref(), &process.config.normaliser())?;
    }
    Ok(verification.report().clone())
}

fn print(report: &Report) {
    if report.partitions.is_empty() {
        println!("{}: nothing is archived", report.topic);
    } else {
        println!("{}", report.topic);
        println!("{:>9} {:>14} {:>10} {:>14} {:>5}", "PARTITION", "ARCHIVED TO", "MANIFESTS", "ROWS", "GAPS");
    }
    for p in &report.partitions {
        println!("{:>9} {:>14} {:>10} {:>14} {:>5}", p.partition, p.end, p.manifests, p.rows, p.gaps.len());
    }
    if report.compactions > 0 {
        let removed: u64 = report.retired.rows.values().sum();
        println!("{} compactions; {removed} rows removed by retention", report.compactions);
    }
    report.problems.iter().for_each(|problem| println!("problem: {problem}"));
    if report.more_problems > 0 {
        println!("… and {} more", report.more_problems);
    }
}
