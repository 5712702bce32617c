//! `traffic train`: fits a model, publishes it, and promotes it if it is better than the current one.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use common::worker::Process;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use predictor::evaluate::HorizonReport;
use predictor::forecast::series::Series;
use predictor::registry::{Automatic, Registry};
use predictor::train::Stage;
use predictor::trainer::{Outcome, Wish, train};
use predictor::{Settings, graph, history};

use crate::readings::{WideArgs, edges};

const DAY_MS: i64 = 86_400_000;

/// Fit a model to the archive, or to a file, and promote it if it is better
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic train                                  the last 28 days of archived aggregates; 3 of them held out
  traffic train --days 56 --held-out-days 7      more of them
  traffic train --no-promote                     publish it, and leave the current model
  traffic train --csv may.csv --start 2012-05-01T00:00 --unit mph --zero-is-missing --graph edges.csv
                                                 from a wide CSV (a row a step, a column a sensor)
  traffic train --json | jq '{version, promoted}'

The model is published in the registry (`traffic model list`). It takes the current one's place if its mean absolute
error on the days held out is smaller by --margin, and no rollback has pinned the current one; a first model has to
beat the last value. Predictors notice within predictor.model_poll and go on with it from the next window.")]
pub struct TrainArgs {
    /// Days of archived aggregates, up to now
    #[arg(long, default_value_t = 28, value_parser = clap::value_parser!(i64).range(2..=3_660), conflicts_with = "csv")]
    days: i64,
    /// The last of them ends here [default: the last full hour]
    #[arg(long, conflicts_with = "csv")]
    until: Option<Timestamp>,
    /// A wide CSV in place of the archive
    #[arg(long, requires = "start")]
    csv: Option<PathBuf>,
    /// Local time of its first row
    #[arg(long, requires = "csv")]
    start: Option<DateTime>,
    #[command(flatten)]
    wide: WideArgs,
    /// Days at the end that the model is judged on and does not see
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    held_out_days: u32,
    /// Share of the current model's error by which the new one has to be better
    #[arg(long, default_value_t = 0.01, allow_negative_numbers = true)]
    margin: f64,
    /// Publish it only
    #[arg(long)]
    no_promote: bool,
    /// What `traffic model show` says about it
    #[arg(long, default_value = "")]
    description: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &TrainArgs, process: &Process) -> Result<()> {
    ensure!((-1.0..1.0).contains(&args.margin), "--margin {}: a share like 0.01", args.margin);
    let registry = Registry::configured(process)?;
    let mut settings = Settings::from(&process.config);
    let series = match &args.csv {
        Some(path) => {
            settings.time = args.wide.time(&process.config);
            from_csv(args, path, &settings.time.zone)?
        }
        None => from_archive(args, process)?,
    };
    let edges = match &args.wide {
        wide if args.csv.is_some() || wide.graph.is_some() || wide.locations.is_some() => edges(wide, &series)?,
        _ => process.runtime().block_on(graph::reference(&process.store()?, &series))?,
    };
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg:8} {wide_bar} {pos}/{len}, {eta} left").expect("a template"));
    let progress = |stage: Stage, done: u64, all: u64| {
        let name = if stage == Stage::Fitting { "fitting" } else { "scoring" };
        bar.set_message(name);
        bar.set_length(all);
        bar.set_position(done);
    };
    let wish = Wish {
        held_out_days: args.held_out_days as usize,
        margin: args.margin,
        promote: !args.no_promote,
        shadow: false,
        by: &process.config.instance,
        description: &args.description,
    };
    let (runtime, clock) = (process.runtime(), process.clock.as_ref());
    let outcome = train(&registry, runtime, clock, (&series, &edges), &settings, &wish, &progress);
    bar.finish_and_clear();
    let outcome = outcome?;
    if args.json {
        println!("{}", json(&outcome));
    } else {
        print(&outcome, series.segments.len());
    }
    Ok(())
}

fn from_csv(args: &TrainArgs, path: &Path, zone: &TimeZone) -> Result<Series> {
    let start = args.start.context("--start says when the first row was")?;
    let wide = args.wide.read(path, start, zone, &ProgressBar::hidden())?;
    let name = |(sensor, speeds): (String, Vec<f32>)| (args.wide.segment(&sensor), speeds);
    Ok(Series::new(wide.first, wide.columns.into_iter().map(name).collect()))
}

fn from_archive(args: &TrainArgs, process: &Process) -> Result<Series> {
    let to_ms = match args.until {
        Some(until) => until.as_millisecond(),
        None => process.clock.now_ms().div_euclid(3_600_000) * 3_600_000,
    };
    let from_ms = to_ms - args.days * DAY_MS;
    let bar = ProgressBar::new(u64::try_from(args.days * 24)?);
    bar.set_style(
        ProgressStyle::with_template("reading  {wide_bar} {pos}/{len} hours, {eta} left").expect("a template"),
    );
    let topic = process.config.topics.names().aggregates;
    let store = process.store()?;
    let series = process.runtime().block_on(history::read(&store, &topic, from_ms, to_ms, &|| bar.inc(1)))?;
    bar.finish_and_clear();
    if series.segments.is_empty() {
        bail!(
            "the archive has no aggregate of the {} days before {}; --days and --until say which to read, \
             `traffic inspect` what there is",
            args.days,
            Timestamp::from_millisecond(to_ms)?
        );
    }
    Ok(series.without_empty_ends())
}

fn json(outcome: &Outcome) -> serde_json::Value {
    let promoted = matches!(outcome.promotion, Some(Automatic::Promoted(_)));
    let refused = match &outcome.promotion {
        Some(Automatic::Refused(why)) => Some(why.to_string()),
        _ => None,
    };
    serde_json::json!({
        "version": outcome.version.to_string(),
        "champion": outcome.champion.map(|version| version.to_string()),
        "promoted": promoted,
        "refused": refused,
        "improvement": outcome.trained.improvement(),
        "fit_seconds": outcome.fit_seconds,
        "challenger": outcome.trained.challenger,
        "champion_on_the_same_days": outcome.trained.champion,
    })
}

fn print(outcome: &Outcome, segments: usize) {
    let trained = &outcome.trained;
    println!(
        "{} is published: {segments} segments, fitted to {} windows in {:.1} s, judged on {} later ones; km/h",
        outcome.version,
        trained.plan.fit.len(),
        outcome.fit_seconds,
        trained.plan.held_out.len()
    );
    println!();
    println!("{:>7} {:>10} {:>10} {:>12} {:>12}", "MINUTES", "MAE", "CURRENT", "LAST VALUE", "90 % HOLDS");
    for report in &trained.challenger {
        let of = |reports: &Vec<HorizonReport>| {
            reports.iter().find(|other| other.horizon == report.horizon).map(|other| other.model.mae)
        };
        let current = trained.champion.as_ref().and_then(of);
        println!(
            "{:>7} {:>10.3} {:>10} {:>12.3} {:>12.3}",
            report.horizon,
            report.model.mae,
            current.map_or("-".to_owned(), |mae| format!("{mae:.3}")),
            report.last_value.mae,
            report.interval_90.coverage
        );
    }
    println!();
    println!("{}", verdict(outcome));
}

fn verdict(outcome: &Outcome) -> String {
    let version = outcome.version;
    let improvement = outcome.trained.improvement().map_or(String::new(), |share| {
        format!(" ({:+.1} % against {})", -share * 100.0, outcome.champion.map_or(String::new(), |v| v.to_string()))
    });
    match &outcome.promotion {
        Some(Automatic::Promoted(_)) => format!("promoted{improvement}: predictors go on with it from the next window"),
        Some(Automatic::Refused(why)) => format!("not promoted{improvement}: {why}"),
        None if outcome.deserves => {
            format!("not promoted, as asked{improvement}: `traffic model promote {version}` does")
        }
        None => format!("not promoted{improvement}: it is not better by the margin, or not better than the last value"),
    }
}
