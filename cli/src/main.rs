//! `traffic`: everything an operator does.

mod alerts;
mod backfill;
mod compact;
mod demo;
mod evaluate;
mod feed;
mod flow;
mod init;
mod inspect;
mod lag;
mod migrate;
mod model;
mod picture;
mod readings;
mod replay;
mod simulate;
mod train;
mod units;
mod up;
mod verify;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};
use common::config::Config;
use common::worker::Process;

/// Streaming traffic prediction: everything an operator does
#[derive(Debug, Parser)]
#[command(name = "traffic", version, propagate_version = true)]
struct Cli {
    /// Settings (TOML); variables like TRAFFIC_LOG go over it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Alerts(alerts::AlertsArgs),
    Demo(demo::DemoArgs),
    Up(up::UpArgs),
    Init(init::InitArgs),
    Replay(replay::ReplayArgs),
    Simulate(simulate::SimulateArgs),
    Migrate(migrate::MigrateArgs),
    Model(model::ModelArgs),
    Lag(lag::LagArgs),
    Inspect(inspect::InspectArgs),
    Compact(compact::CompactArgs),
    Backfill(backfill::BackfillArgs),
    Evaluate(evaluate::EvaluateArgs),
    Train(train::TrainArgs),
    Verify(verify::VerifyArgs),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let (flags, port) = match &cli.command {
        Command::Up(up::UpArgs { instance: Some(name), .. }) => (vec![("instance", name.as_str())], Some(up::PORT)),
        Command::Up(_) => (Vec::new(), Some(up::PORT)),
        _ => (Vec::new(), None),
    };
    let mut config = Config::from_process(cli.config.as_deref(), &flags)?;
    let view = match &cli.command {
        Command::Demo(args) => args.view(),
        Command::Up(args) => view::wanted(args.no_view),
        _ => false,
    };
    if view {
        view::quieten(&mut config);
    }
    let process = Process::start("traffic", config, port)?;
    match &cli.command {
        Command::Alerts(args) => alerts::run(args, &process),
        Command::Demo(args) => demo::run(args, &process),
        Command::Up(args) => up::run(args, &process),
        Command::Init(args) => init::run(args, &process),
        Command::Replay(args) => {
            let mut source = args.source()?;
            feed_log(&process, source.as_mut(), args.speed)
        }
        Command::Simulate(args) => {
            let feed = &mut |source: &mut simulate::Simulation| feed_log(&process, source, feed::Speed::Max);
            simulate::run(args, process.clock.now_ms(), feed)
        }
        Command::Migrate(args) => migrate::run(args, &process),
        Command::Model(args) => model::run(args, &process),
        Command::Lag(args) => lag::run(args, process.log()?.as_ref(), &flow::readings(&process.config)),
        Command::Inspect(args) => inspect::run(args, &process),
        Command::Evaluate(args) => evaluate::run(args, &process),
        Command::Train(args) => train::run(args, &process),
        Command::Backfill(args) => backfill::run(args, &process),
        Command::Compact(args) => compact::run(args, &process),
        Command::Verify(args) => verify::run(args, &process),
    }
}

/// Sends a source's events to the topic of events.
fn feed_log(process: &Process, source: &mut dyn feed::Source, speed: feed::Speed) -> Result<()> {
    let log = process.log()?;
    let topic = process.config.topics.names().events;
    let Some(partitions) = log.partitions(&topic)? else {
        bail!("topic {topic} does not exist; create it with `traffic init`");
    };
    let mut producer = log.producer()?;
    let stop = || process.shutdown.requested();
    let mut target = feed::Target {
        producer: producer.as_mut(),
        topic: &topic,
        partitions,
        speed,
        clock: process.clock.as_ref(),
        stop: &stop,
    };
    let began_ms = process.clock.now_ms();
    let sent = feed::feed(source, &mut target)?;
    let took_ms = process.clock.now_ms() - began_ms;
    eprintln!("{sent} events sent to {topic} in {}.{:03} s", took_ms / 1000, took_ms % 1000);
    ensure!(!process.shutdown.requested(), "stopped before the end");
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn no_command_contradicts_itself() {
        super::Cli::command().debug_assert();
    }
}
