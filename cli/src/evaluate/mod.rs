//! `traffic evaluate`: how good forecasts are on recorded readings.

mod plot;
mod table;

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use common::worker::Process;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use predictor::evaluate::{HorizonReport, Task};
use predictor::forecast::fit::{Plan, fit};
use predictor::forecast::series::Series;
use predictor::{Live, Settings, Slot};
use serde::Serialize;

use plot::Plots;

use crate::readings::{WideArgs, edges};
use crate::replay::Unit;

/// Windows of the past that a forecast needs at least, and of the future that it may speak of.
const PAST: usize = 12;
const FUTURE: usize = 12;
/// Windows before the scored ones that the machine is fed, to look back on: a day and four hours.
const WARM_UP: usize = 336;

/// Fit a model to recorded readings and say how good its forecasts are on later ones
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic evaluate --train may.csv --train-start 2012-05-23T07:10 --unit mph --zero-is-missing \\
      --graph edges.csv                                  70 % to fit, 10 % to measure errors, 20 % to score
  traffic evaluate --train may.csv --train-start 2012-05-01T00:00 --test june.csv --test-start 2012-06-01T00:00 \\
      --online --json | jq '.horizons[].model.mae'       fit on one file, score another
  traffic evaluate --train week.csv --train-start 2012-03-01T00:00 --shares 80,0,20 --protocol averaged \\
      --horizons 15,30,45,60                             errors averaged over the steps up to each horizon
  traffic evaluate --train may.csv --train-start 2012-05-23T07:10 --plot pictures
                                                         draws what it found into pictures/*.svg

Fits with the code of `traffic train`, then feeds the readings to the predictor itself, window by window, and compares
what it publishes with what came, beside the last value, the average by time of week, and linear regression. Errors
are in the unit of the file.")]
pub struct EvaluateArgs {
    /// Wide CSV (a row a step, a column a sensor) to fit to
    #[arg(long, value_name = "CSV")]
    train: PathBuf,
    /// Local time of its first row
    #[arg(long)]
    train_start: DateTime,
    /// Wide CSV to score on [default: the end of the training file]
    #[arg(long, value_name = "CSV")]
    test: Option<PathBuf>,
    /// Local time of its first row [default: it follows the training file]
    #[arg(long, requires = "test")]
    test_start: Option<DateTime>,
    #[command(flatten)]
    wide: WideArgs,
    /// Minutes ahead
    #[arg(long, value_delimiter = ',', default_value = "15,30,60", value_parser = clap::value_parser!(u32).range(5..=60))]
    horizons: Vec<u32>,
    /// Go on learning what is usual while scoring, as the predictor does [default: as it was when the model was fitted]
    #[arg(long)]
    online: bool,
    /// A horizon's errors are its own, or those of all steps up to it
    #[arg(long, value_enum, default_value = "steps")]
    protocol: Protocol,
    /// Without --test: shares of the file to fit to, to measure errors on, and to score, %
    #[arg(long, value_delimiter = ',', num_args = 1, default_value = "70,10,20", value_name = "FIT,HELD,TEST")]
    shares: Vec<u32>,
    /// Spread segments over so many partitions, as the topics do: errors are learnt apart in each
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    partitions: u32,
    /// Draw error by hour and horizon, calibration, best and worst segments and a day into this folder, as SVG
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Steps,
    Averaged,
}

/// The report, in the unit of the file.
#[derive(Debug, Serialize)]
struct Report {
    unit: &'static str,
    protocol: &'static str,
    online: bool,
    segments: usize,
    /// Windows to fit to, held out to measure errors, and scored.
    fit_windows: usize,
    held_out_windows: usize,
    scored_windows: usize,
    fit_seconds: f64,
    predict_seconds: f64,
    horizons: Vec<HorizonReport>,
}

/// What is fitted to, held out and scored.
struct Split {
    fit: Range<usize>,
    held_out: Range<usize>,
    scored: Range<usize>,
}

pub fn run(args: &EvaluateArgs, process: &Process) -> Result<()> {
    let horizons = horizons(&args.horizons, args.protocol)?;
    args.plot.as_deref().map(plot::prepare).transpose()?;
    let time = args.wide.time(&process.config);
    let (series, split) = read(args, &time.zone)?;
    let edges = edges(&args.wide, &series)?;
    let plan = Plan::new(&horizons, split.fit.clone(), split.held_out.clone());
    let clock = &process.clock;
    let (began_ms, trees) =
        (clock.now_ms(), bar(plan.trees() as u64, "{msg} {wide_bar} {pos}/{len} trees, {eta} left"));
    trees.set_message("fitting");
    let model = fit(&series, &edges, &time, &plan, &|| trees.inc(1));
    trees.finish_and_clear();
    let fitted_ms = clock.now_ms();
    let fed = split.fit.end.min(split.scored.start.saturating_sub(WARM_UP))..split.scored.end;
    let task = Task {
        series: &series,
        fitted: split.fit.clone(),
        fed: fed.clone(),
        scored: split.scored.clone(),
        partitions: args.partitions,
        averaged: args.protocol == Protocol::Averaged,
    };
    let settings = Settings { horizons, time, frozen: !args.online, ..Settings::default() };
    let slot = Slot::default();
    let seen_until = series.step(split.held_out.end) - 1;
    slot.put(Some(Live { version: "v0.0.0".into(), model, seen_until, ..Live::default() }));
    let windows = bar(fed.len() as u64, "{msg} {wide_bar} {pos}/{len} windows, {eta} left");
    windows.set_message("scoring");
    let mut plots = args
        .plot
        .as_ref()
        .map(|_| Plots::new(&series, series.slots(&settings.time), &split.scored, &settings.horizons));
    let mut each = |scored| plots.iter_mut().for_each(|plots| plots.add(&scored));
    let mut reports = task.run(&settings, &slot, &|| windows.inc(1), &mut each)?;
    windows.finish_and_clear();
    reports.retain(|report| args.horizons.contains(&report.horizon));
    let kmh = if args.wide.unit == Unit::Mph { common::model::SpeedUnit::Mph.to_kmh(1.0) } else { 1.0 };
    let report = Report {
        unit: if args.wide.unit == Unit::Mph { "mph" } else { "km/h" },
        protocol: if args.protocol == Protocol::Averaged { "averaged" } else { "steps" },
        online: args.online,
        segments: series.segments.len(),
        fit_windows: split.fit.len(),
        held_out_windows: split.held_out.len(),
        scored_windows: split.scored.len(),
        fit_seconds: seconds(fitted_ms - began_ms),
        predict_seconds: seconds(clock.now_ms() - fitted_ms),
        horizons: reports.into_iter().map(|report| in_unit(report, kmh)).collect(),
    };
    if let (Some(plots), Some(folder)) = (&plots, &args.plot) {
        plots.write(folder, &report, kmh)?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        table::print(&report);
    }
    Ok(())
}

/// The horizons to fit: every step up to the longest where errors are averaged over them.
fn horizons(asked: &[u32], protocol: Protocol) -> Result<Vec<u32>> {
    let fits = asked.iter().all(|minutes| minutes % 5 == 0) && asked.is_sorted_by(|a, b| a < b);
    ensure!(fits, "--horizons: multiples of 5, of 5 to 60 minutes, ascending; not {asked:?}");
    let longest = asked.last().copied().context("--horizons: at least one")?;
    Ok(match protocol {
        Protocol::Steps => asked.to_vec(),
        Protocol::Averaged => (5..=longest).step_by(5).collect(),
    })
}

fn read(args: &EvaluateArgs, zone: &TimeZone) -> Result<(Series, Split)> {
    let file = |path: &Path, start| {
        let size = std::fs::metadata(path).with_context(|| path.display().to_string())?.len();
        let bar = bar(size, "{msg} {wide_bar} {bytes}/{total_bytes}");
        bar.set_message(format!("reading {}", path.display()));
        let read = args.wide.read(path, start, zone, &bar);
        bar.finish_and_clear();
        read
    };
    let train = file(&args.train, args.train_start)?;
    let windows = train.windows;
    let (wide, split) = match &args.test {
        None => {
            let split = by_shares(windows, &args.shares)?;
            (train, split)
        }
        Some(path) => {
            let end = train.first + i64::try_from(windows)?;
            let start = match args.test_start {
                Some(start) => start,
                None => {
                    let end = jiff::Timestamp::from_millisecond((end - 1) * predictor::forecast::STEP_MS)?;
                    zone.to_datetime(end)
                }
            };
            let wide = train.join(file(path, start)?)?;
            let begins = usize::try_from(
                zone.to_ambiguous_timestamp(start).compatible()?.as_millisecond().div_euclid(300_000) + 1 - wide.first,
            )?;
            // Errors are measured on the last tenth of the training file, which the trees do not see.
            let held_out = windows - windows / 10..windows;
            ensure!(wide.windows > begins + PAST + FUTURE, "{}: fewer than {} rows", path.display(), PAST + FUTURE);
            let scored = begins + PAST - 1..wide.windows - FUTURE;
            (wide, Split { fit: 0..held_out.start, held_out, scored })
        }
    };
    let name = |(sensor, speeds): (String, Vec<f32>)| (args.wide.segment(&sensor), speeds);
    Ok((Series::new(wide.first, wide.columns.into_iter().map(name).collect()), split))
}

/// Shares of the windows that have a full past and future, as the literature on METR-LA counts them.
fn by_shares(windows: usize, shares: &[u32]) -> Result<Split> {
    let [fit, held_out, test] = *shares else { bail!("--shares: three numbers, like 70,10,20") };
    let sum: u64 = shares.iter().map(|share| u64::from(*share)).sum();
    ensure!(sum == 100 && fit > 0 && test > 0, "--shares: they make 100 %, like 70,10,20");
    let all = windows.checked_sub(PAST + FUTURE - 1).filter(|all| *all >= 100);
    let all = all.with_context(|| format!("{windows} windows are too few to fit to and score: give days"))?;
    let share = |percent: u32| (all * percent as usize + 50) / 100;
    let (fit, scored) = (share(fit), all - share(test));
    let at = |sample: usize| sample + PAST - 1;
    let held_out = if held_out == 0 { at(fit) - at(fit) / 10..at(fit) } else { at(fit) + PAST - 1..at(scored) };
    let fit = if held_out.start < at(fit) { 0..held_out.start } else { 0..at(fit) };
    Ok(Split { fit, held_out, scored: at(scored)..at(all) })
}

#[expect(clippy::cast_precision_loss, reason = "seconds")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn in_unit(mut report: HorizonReport, kmh: f64) -> HorizonReport {
    let errors = [&mut report.model, &mut report.last_value, &mut report.historical_average];
    for errors in errors.into_iter().chain(&mut report.linear) {
        errors.mae /= kmh;
        errors.rmse /= kmh;
    }
    report.interval_80.width /= kmh;
    report.interval_90.width /= kmh;
    report
}

/// A progress bar; hidden where nobody sees it.
fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("a template");
    ProgressBar::new(length).with_style(style)
}
