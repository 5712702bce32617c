//! Training against the registry: the challenger is published, and takes the champion's place if it deserves to.

use common::clock::Clock;
use common::model::ModelType;
use serde_json::{Map, Value};

use crate::Settings;
use crate::evaluate::HorizonReport;
use crate::forecast::artifact::{self, ArtifactError, FORMAT};
use crate::forecast::features::NAMES;
use crate::forecast::model::Model;
use crate::forecast::network::Edge;
use crate::forecast::series::Series;
use crate::forecast::{STEP_MIN, STEP_MS};
use crate::registry::{
    Automatic, Bump, CHALLENGER, Data, Description, HISTORICAL_AVERAGE, LAST_VALUE, LINEAR, Order, Registry,
    RegistryError, Score, Version,
};
use crate::train::{Progress, TrainError, Trained, Training};

/// What a training is to do beside fitting.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// Days at the end that nothing is fitted to.
    pub held_out_days: usize,
    /// By which share of the champion's error the challenger has to be better.
    pub margin: f64,
    /// Whether one that is better takes the champion's place at once.
    pub promote: bool,
    /// Whether one that is better is to be compared with the champion live, before it takes its place.
    pub shadow: bool,
    /// Who asks.
    pub by: &'a str,
    pub description: &'a str,
}

/// What came of a training.
pub struct Outcome {
    pub version: Version,
    pub champion: Option<Version>,
    pub trained: Trained,
    pub deserves: bool,
    /// What became of the promotion; `None` if none was tried.
    pub promotion: Option<Automatic>,
    pub fit_seconds: f64,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrainerError {
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the model does not fit into memory as bytes: {0}")]
    Encode(#[from] std::io::Error),
}

/// Trains, publishes and, if asked to, promotes. It holds the thread for as long as a fit takes.
///
/// # Errors
/// If there is too little to train on, or the registry does not answer. A champion that cannot be read is no error: it
/// is not compared with, and a warning says so.
pub fn train(
    registry: &Registry,
    runtime: &tokio::runtime::Handle,
    clock: &dyn Clock,
    (series, edges): (&Series, &[Edge]),
    settings: &Settings,
    wish: &Wish<'_>,
    progress: Progress<'_>,
) -> Result<Outcome, TrainerError> {
    let (champion, model) = runtime.block_on(champion(registry))?;
    let began_ms = clock.now_ms();
    let training = Training { series, edges, settings, held_out_days: wish.held_out_days, champion: model };
    let trained = training.run(progress)?;
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let fit_seconds = (clock.now_ms() - began_ms) as f64 / 1_000.0;
    let bytes = artifact::encode(&trained.model)?;
    let description = describe(series, &trained, champion, wish, clock.now_ms(), fit_seconds);
    let version = runtime.block_on(registry.publish(&bytes, &description, Bump::Minor))?;
    let deserves = trained.deserves(wish.margin);
    let promotion = if wish.promote && deserves {
        let order = Order { by: wish.by, at_ms: clock.now_ms(), reason: &reason(&trained) };
        Some(runtime.block_on(registry.promote_automatically(version, champion, &order))?)
    } else {
        None
    };
    Ok(Outcome { version, champion, trained, deserves, promotion, fit_seconds })
}

async fn champion(registry: &Registry) -> Result<(Option<Version>, Option<Model>), RegistryError> {
    let Some(current) = registry.current().await? else { return Ok((None, None)) };
    let unusable = |error: &dyn std::fmt::Display| {
        let version = current.version;
        tracing::warn!(%version, %error, "model {version} can not be compared with: {error}");
    };
    let bytes = match registry.load(current.version).await {
        Ok((_, bytes)) => bytes,
        Err(error @ (RegistryError::Flawed { .. } | RegistryError::NoVersion { .. })) => {
            unusable(&error);
            return Ok((Some(current.version), None));
        }
        Err(error) => return Err(error),
    };
    let model = artifact::decode(&bytes).inspect_err(|error: &ArtifactError| unusable(error)).ok();
    Ok((Some(current.version), model))
}

/// Why a challenger was promoted.
fn reason(trained: &Trained) -> String {
    match trained.improvement() {
        Some(improvement) => format!("mean absolute error {:.1} % below the champion's", improvement * 100.0),
        None => "the first model that beats the last value".to_owned(),
    }
}

fn describe(
    series: &Series,
    trained: &Trained,
    champion: Option<Version>,
    wish: &Wish<'_>,
    now_ms: i64,
    fit_seconds: f64,
) -> Description {
    let data = |windows: &std::ops::Range<usize>| {
        let speeds = || series.speeds.iter().flat_map(|speeds| &speeds[windows.clone()]);
        let bytes: Vec<u8> = speeds().flat_map(|speed| speed.to_le_bytes()).collect();
        Data {
            first: (series.step(windows.start) - 1) * STEP_MS,
            last: (series.step(windows.end) - 1) * STEP_MS,
            rows: speeds().filter(|speed| !speed.is_nan()).count() as u64,
            segments: series.segments.len() as u64,
            hash: crate::registry::hash_of(&bytes),
        }
    };
    let scores = |of: fn(&HorizonReport) -> Option<Score>| trained.challenger.iter().filter_map(of).collect();
    let baselines = [
        (LAST_VALUE, scores(|report| Some(score(report.horizon, &report.last_value)))),
        (HISTORICAL_AVERAGE, scores(|report| Some(score(report.horizon, &report.historical_average)))),
        (LINEAR, scores(|report| Some(score(report.horizon, &report.linear?)))),
    ];
    Description {
        model_type: serde_json::to_value(ModelType::GradientBoosting)
            .ok()
            .and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default(),
        created_at: now_ms,
        created_by: wish.by.to_owned(),
        parent_version: champion,
        description: wish.description.to_owned(),
        tags: if wish.shadow && trained.deserves(wish.margin) { vec![CHALLENGER.to_owned()] } else { Vec::new() },
        training_data: data(&trained.plan.fit),
        held_out_data: data(&trained.plan.held_out),
        horizons_minutes: trained.plan.horizons.clone(),
        step_minutes: STEP_MIN,
        speed_unit: "km/h".to_owned(),
        features: NAMES.iter().map(|name| (*name).to_owned()).collect(),
        hyperparameters: hyperparameters(trained),
        metrics: scores(|report| {
            let (of_80, of_90) = (report.interval_80, report.interval_90);
            Some(Score {
                coverage_80: Some(of_80.coverage),
                width_80_kmh: Some(of_80.width),
                coverage_90: Some(of_90.coverage),
                width_90_kmh: Some(of_90.width),
                ..score(report.horizon, &report.model)
            })
        }),
        baselines: baselines.into_iter().map(|(name, scores)| (name.to_owned(), scores)).collect(),
        fit_seconds,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_format: FORMAT,
    }
}

fn score(horizon_minutes: u32, errors: &crate::forecast::metrics::Errors) -> Score {
    Score {
        horizon_minutes,
        n: errors.n,
        mae_kmh: errors.mae,
        rmse_kmh: errors.rmse,
        mape_percent: Some(errors.mape),
        ..Score::default()
    }
}

fn hyperparameters(trained: &Trained) -> Map<String, Value> {
    let (trees, perceptron) = (&trained.plan.trees, &trained.plan.perceptron);
    let numbers: [(&str, Value); 14] = [
        ("trees", trees.trees.into()),
        ("spread_trees", trained.plan.spread.trees.into()),
        ("leaves", trees.leaves.into()),
        ("learning_rate", f64::from(trees.learning_rate).into()),
        ("leaf_rows", trees.leaf_rows.into()),
        ("row_share", trees.row_share.into()),
        ("column_share", trees.column_share.into()),
        ("seed", trees.seed.into()),
        ("perceptron_hidden", perceptron.hidden.into()),
        ("perceptron_passes", perceptron.passes.into()),
        ("perceptron_learning_rate", f64::from(perceptron.learning_rate).into()),
        ("perceptron_weight_decay", f64::from(perceptron.weight_decay).into()),
        ("perceptron_dropout", f64::from(perceptron.dropout).into()),
        ("perceptron_seed", perceptron.seed.into()),
    ];
    numbers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
