//! `traffic model`: which models there are, which is current, and changing that.

mod compare;
mod list;
mod show;

use anyhow::Result;
use clap::{Args, Subcommand};
use common::worker::Process;
use indicatif::HumanCount;
use predictor::registry::{Current, Order, Registry, State, Tidied, Version};
use serde_json::json;

/// List, look at and compare models; say which one forecasts
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model list                       all versions, and which one is current
  traffic model compare v1.0.0 v1.1.0      what each was measured to be worth
  traffic model promote v1.1.0 --reason \"beats v1.0.0 by 3 %\"
  traffic model rollback                   back to the one before, which is pinned then
  traffic model list --json | jq -r '.current.version'

Workers take another model over within predictor.model_poll (10 s), between two frames.")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
    /// One JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Compare(compare::CompareArgs),
    Promote(PromoteArgs),
    Rollback(RollbackArgs),
    Unpin(UnpinArgs),
    Tidy(TidyArgs),
}

/// Make a version current
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model promote v1.1.0 --reason \"beats v1.0.0 by 3 %\"
  traffic model promote v1.1.0 --by ada --json

The model is read and its hash verified first. A pin is taken away. Safe to run again.")]
struct PromoteArgs {
    /// Which, like v1.1.0
    #[arg(id = "model", value_name = "VERSION")]
    version: Version,
    #[command(flatten)]
    who: Who,
}

/// Go back to an earlier version and pin it: no automatic promotion replaces it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model rollback                   to the version that was current before
  traffic model rollback v1.0.0 --reason \"odd forecasts on I-405\"

Doing so twice goes two versions back. The pin holds until `traffic model promote` or `traffic model unpin`.")]
struct RollbackArgs {
    /// To this version [default: the one that was current before]
    #[arg(id = "model", value_name = "VERSION")]
    version: Option<Version>,
    #[command(flatten)]
    who: Who,
}

/// Let automatic promotion replace the current version again
#[derive(Debug, Args)]
#[command(after_help = "Example:
  traffic model unpin --reason \"the sensors are mended\"")]
struct UnpinArgs {
    #[command(flatten)]
    who: Who,
}

/// Clear away what a publisher that died has left, and write CURRENT anew if need be
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model tidy --dry-run             what it would clear away
  traffic model tidy

May run at any time: a publisher that was only slow takes another number. Finished versions, promotions and files that
are not the registry's are left alone.")]
struct TidyArgs {
    /// Only say what would be cleared away
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    who: Who,
}

/// Who asks for a change, and why.
#[derive(Debug, Args)]
struct Who {
    /// Who says so [default: the setting `instance`]
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

impl Who {
    fn order<'a>(&'a self, process: &'a Process) -> Order<'a> {
        let by = self.by.as_deref().unwrap_or(&process.config.instance);
        Order { by, reason: &self.reason, at_ms: process.clock.now_ms() }
    }
}

/// # Errors
/// If the store does not answer, or what is asked for can not be.
pub fn run(args: &ModelArgs, process: &Process) -> Result<()> {
    let registry = Registry::configured(process)?;
    let runtime = process.runtime();
    let json = args.json;
    match &args.command {
        ModelCommand::List(args) => runtime.block_on(list::run(args, &registry, json)),
        ModelCommand::Show(args) => runtime.block_on(show::run(args, &registry, json)),
        ModelCommand::Compare(args) => runtime.block_on(compare::run(args, &registry, json)),
        ModelCommand::Promote(args) => {
            report(runtime.block_on(registry.promote(args.version, &args.who.order(process)))?, json)
        }
        ModelCommand::Rollback(args) => {
            report(runtime.block_on(registry.rollback(args.version, &args.who.order(process)))?, json)
        }
        ModelCommand::Unpin(args) => report(runtime.block_on(registry.unpin(&args.who.order(process)))?, json),
        ModelCommand::Tidy(args) if args.dry_run => runtime.block_on(plan(&registry, json)),
        ModelCommand::Tidy(args) => {
            tidied(&runtime.block_on(registry.tidy(&args.who.order(process)))?, json);
            Ok(())
        }
    }
}

fn report(current: Current, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(&current)?);
    } else {
        let pinned = if current.pinned { ", pinned" } else { "" };
        println!("{} is current{pinned} (promotion {})", current.version, current.promotion);
    }
    Ok(())
}

async fn plan(registry: &Registry, json: bool) -> Result<()> {
    let versions = registry.list().await?.versions;
    let unfinished: Vec<Version> =
        versions.iter().filter(|found| found.state == State::Unfinished).map(|found| found.version).collect();
    if json {
        println!("{}", json!({ "unfinished": unfinished }));
    } else if unfinished.is_empty() {
        println!("no version is unfinished");
    } else {
        println!("unfinished, and would be cleared away: {}", joined(&unfinished));
    }
    Ok(())
}

fn tidied(done: &Tidied, json: bool) {
    if json {
        let Tidied { abandoned, removed, swept, current_written } = done;
        let object = json!({
            "abandoned": abandoned, "removed": removed, "swept": swept, "current_written": current_written,
        });
        println!("{object}");
        return;
    }
    if *done == Tidied::default() {
        println!("all is tidy");
    }
    if !done.abandoned.is_empty() {
        println!("unfinished, and abandoned now: {}", joined(&done.abandoned));
    }
    if !done.removed.is_empty() {
        println!("models of abandoned versions removed: {}", joined(&done.removed));
    }
    if done.swept > 0 {
        println!("half-written files removed: {}", done.swept);
    }
    if done.current_written {
        println!("CURRENT was missing or stale, and is written anew");
    }
}

fn joined(versions: &[Version]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Epoch ms as UTC.
fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.0}"))
}

fn count(n: u64) -> String {
    HumanCount(n).to_string()
}

/// A number, or a dash where there is none.
fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}
