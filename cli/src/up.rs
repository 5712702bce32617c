//! `traffic up`: all workers in one process.

use anyhow::{Result, ensure};
use clap::Args;
use common::worker::{Crew, Ended, Process};

use crate::flow;
use crate::view::{self, View};

/// Run all workers in one process
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic up                                       on the embedded log: a small town, one process
  TRAFFIC_LOG=kafka://kafka:9092 TRAFFIC_STORE=hdfs://namenode:9000 traffic up --instance a
  traffic up --exit-at-end                         catch up with everything and exit

On a terminal a live view shows what goes on, and only warnings are logged (unless a level is set).
Topics that are missing are created. SIGTERM drains, commits and exits 0; a second signal ends at once.
Health and metrics: http://HOST:9100/health/live, /health/ready, /metrics.")]
pub struct UpArgs {
    /// This process's lasting name [default: HOST-0]
    #[arg(long, value_name = "NAME")]
    pub instance: Option<String>,
    /// Process everything up to the end of every partition, commit and exit 0
    #[arg(long)]
    pub exit_at_end: bool,
    /// Log lines instead of the live view, also on a terminal
    #[arg(long)]
    pub no_view: bool,
}

/// Where health and metrics are served, unless another address is set.
pub const PORT: u16 = 9100;

/// Runs until a signal, or to the end of the input.
///
/// # Errors
/// What trying again can not mend.
pub fn run(args: &UpArgs, process: &Process) -> Result<()> {
    ensure!(
        process.config.application_id.is_none(),
        "application_id is set, but the workers of one process need a name each: unset it (TRAFFIC_APPLICATION_ID)"
    );
    let Some(log) = process.wait_for_log()? else { return Ok(()) };
    let topics = process.health.component("topics");
    if process.until_it_works(&topics, || log.ensure_topics(&flow::topics(&process.config)))?.is_none() {
        return Ok(());
    }
    topics.ready();
    let mut crew = Crew::new(process);
    let alerts_ended = flow::enlist(&mut crew, &log, &Ended::when(args.exit_at_end))?;
    if view::wanted(args.no_view) {
        let config = &process.config;
        let files = format!("{}, {}, {}", config.log, config.store, config.database());
        View { title: "traffic up", sent: None, files, alerts_ended }.enlist(&mut crew, &log);
    }
    Ok(crew.run()?)
}
