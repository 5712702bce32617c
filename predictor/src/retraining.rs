//! Trains on a schedule. Of all instances that one does which holds partition 0; if two believe to, each publishes a
//! version of its own, and the second is not promoted, since what it was compared with is no longer current.
//!
//! With `predictor.retrain.shadow` a model that is better on the days held out first forecasts beside the current one,
//! unpublished, on the segments of this instance, and takes its place if it is better there, too.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use common::clock::has_passed;
use common::config::RetrainSettings;
use common::worker::{Ended, Failure, Process};

use crate::frames::Duel;
use crate::live::{Live, Slot};
use crate::registry::{Automatic, CHALLENGER, Order, Registry, RegistryError, State, Version};
use crate::train::TrainError;
use crate::trainer::{Outcome, TrainerError, Wish, train};
use crate::{Predictor, Settings, graph, history};

/// How often it is asked whether something is to be done.
const TICK: Duration = Duration::from_millis(500);
/// Whoever has just come by partition 0 may lose it again at once, while others join.
const SETTLED_MS: i64 = 10_000;
/// After what may pass by itself.
const AGAIN_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// Fewer forecasts than this, however long it took, say nothing about a challenger.
const ENOUGH: f64 = 1_000.0;

/// What the machine shows of itself, at the start and at each commit.
#[derive(Debug, Clone, Default)]
pub struct Window(Arc<Mutex<Seen>>);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    holds_first: bool,
    /// Of the challenger that was asked for.
    duel: Duel,
    challenger: Option<Version>,
}

impl Window {
    pub fn show(&self, machine: &Predictor) {
        let mut seen = self.lock();
        seen.holds_first = machine.frames().any(|(partition, _)| partition == 0);
        seen.duel = seen.challenger.map(|version| machine.duel(&version.to_string())).unwrap_or_default();
    }

    /// Nothing is held any more.
    pub fn close(&self) {
        self.lock().holds_first = false;
    }

    fn holds_first(&self) -> bool {
        self.lock().holds_first
    }

    fn ask(&self, challenger: Option<Version>) {
        let mut seen = self.lock();
        (seen.challenger, seen.duel) = (challenger, Duel::default());
    }

    fn duel(&self) -> Duel {
        self.lock().duel
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Training = JoinHandle<Result<Outcome, Failed>>;

/// What is under way.
enum Phase {
    /// Another instance trains.
    Idle,
    /// This one looks what there is to do, so long after then: it has just come by partition 0, or something failed.
    Looking {
        since_ms: i64,
        ms: i64,
    },
    /// Until so long after then.
    Waiting {
        since_ms: i64,
        ms: i64,
    },
    Training(Training),
    /// A challenger forecasts beside the champion.
    Shadow {
        version: Version,
        champion: Option<Version>,
        since_ms: i64,
        held_out: Option<f64>,
    },
}

/// Why there is no new model this time.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Trainer(#[from] TrainerError),
    #[error(transparent)]
    Archive(#[from] common::archive::ArchiveError),
    #[error(transparent)]
    Graph(#[from] graph::GraphError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Store(#[from] common::store::StoreError),
    #[error("the training panicked")]
    Panicked,
    #[error("no threads to fit with: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// The schedule of an instance.
pub struct Retraining<'p> {
    process: &'p Process,
    registry: Registry,
    slot: Slot,
    window: Window,
    phase: Phase,
}

impl<'p> Retraining<'p> {
    /// # Errors
    /// If the store's location can not be one.
    pub fn new(process: &'p Process, slot: Slot, window: Window) -> Result<Self, Failure> {
        let registry = Registry::configured(process).map_err(|error| Failure(error.to_string()))?;
        Ok(Self { process, registry, slot, window, phase: Phase::Idle })
    }

    fn settings(&self) -> &'p RetrainSettings {
        &self.process.config.predictor.retrain
    }

    /// Goes on until a signal, or until the forecasts have ended. A training that is under way then is left alone and ends
    /// with the process: what it has not published does not exist.
    pub fn run(&mut self, ended: &Ended) {
        let shutdown = &self.process.shutdown;
        while !shutdown.requested() && !ended.get() {
            if self.window.holds_first() {
                self.turn();
            } else if !matches!(self.phase, Phase::Training(_)) {
                self.set_phase(Phase::Idle);
            }
            let runtime = self.process.runtime();
            let _ = runtime.block_on(async { tokio::time::timeout(TICK, shutdown.wait()).await });
        }
        self.slot.put_challenger(None);
    }

    fn set_phase(&mut self, phase: Phase) {
        if !matches!(phase, Phase::Shadow { .. }) {
            self.slot.put_challenger(None);
            self.window.ask(None);
        }
        self.phase = phase;
    }

    /// Does what is to be done now.
    fn turn(&mut self) {
        let now_ms = self.process.clock.now_ms();
        let next = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => Ok(Phase::Looking { since_ms: now_ms, ms: SETTLED_MS }),
            Phase::Looking { since_ms, ms } if has_passed(ms, since_ms, now_ms) => self.recall(now_ms),
            Phase::Waiting { since_ms, ms } if has_passed(ms, since_ms, now_ms) => Ok(Phase::Training(self.begin())),
            Phase::Training(training) if training.is_finished() => self.trained(training, now_ms),
            Phase::Shadow { version, champion, since_ms, held_out } if self.has_seen_enough(since_ms, now_ms) => {
                self.judge(version, champion, held_out)
            }
            phase => Ok(phase),
        };
        match next {
            Ok(phase) => self.set_phase(phase),
            Err(error) => {
                tracing::warn!(%error, "scheduled training: {error}; later again");
                self.set_phase(Phase::Looking { since_ms: now_ms, ms: AGAIN_MS });
            }
        }
    }

    /// Goes on where another instance, or this one in an earlier life, left off.
    fn recall(&mut self, now_ms: i64) -> Result<Phase, Failed> {
        let runtime = self.process.runtime();
        let (listing, current) = runtime.block_on(async {
            Ok::<_, RegistryError>((self.registry.list().await?, self.registry.current().await?))
        })?;
        let newest = listing.versions.into_iter().rev().find_map(|found| match found.state {
            State::Published(metadata) => Some(metadata),
            _ => None,
        });
        let Some(newest) = newest else { return Ok(Phase::Waiting { since_ms: 0, ms: 0 }) };
        let champion = current.map(|current| current.version);
        let is_challenger = newest.description.tags.iter().any(|tag| tag == CHALLENGER)
            && newest.description.parent_version == champion
            && Some(newest.version) != champion;
        if is_challenger && !self.settings().shadow.is_zero() {
            return self.shadow(newest.version, champion, None, now_ms);
        }
        Ok(self.wait(newest.description.created_at))
    }

    fn wait(&self, since_ms: i64) -> Phase {
        Phase::Waiting { since_ms, ms: i64::try_from(self.settings().interval.as_millis()).unwrap_or(i64::MAX) }
    }

    fn begin(&self) -> Training {
        // A copy that lives as long as the training does.
        let (process, registry) = (self.process.with(self.process.config.clone()), self.registry.clone());
        tracing::info!(days = self.settings().days, "a scheduled training begins");
        std::thread::spawn(move || {
            let threads = process.config.predictor.retrain.threads as usize;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            pool.install(|| fit(&process, &registry))
        })
    }

    fn trained(&mut self, training: Training, now_ms: i64) -> Result<Phase, Failed> {
        // A panic was told by the panic hook, and forecasts go on.
        let outcome = match training.join().unwrap_or(Err(Failed::Panicked)) {
            Err(Failed::Trainer(TrainerError::Train(why @ (TrainError::TooShort { .. } | TrainError::Empty)))) => {
                count("too_little");
                tracing::info!("no scheduled training: {why}");
                return Ok(Phase::Waiting { since_ms: now_ms, ms: HOUR_MS });
            }
            Err(error) => {
                count("failed");
                return Err(error);
            }
            Ok(outcome) => outcome,
        };
        let (version, champion, held_out) = (outcome.version, outcome.champion, outcome.trained.improvement());
        if outcome.deserves && !self.settings().shadow.is_zero() {
            return self.shadow(version, champion, held_out, now_ms);
        }
        tell(version, champion, held_out, outcome.promotion.as_ref());
        Ok(self.wait(now_ms))
    }

    fn shadow(
        &mut self,
        version: Version,
        champion: Option<Version>,
        held_out: Option<f64>,
        now_ms: i64,
    ) -> Result<Phase, Failed> {
        let (metadata, bytes) = self.process.runtime().block_on(self.registry.load(version))?;
        let model = match crate::forecast::artifact::decode(&bytes) {
            Ok(model) => model,
            Err(error) => {
                tracing::warn!(%version, %error, "challenger {version} can not be used: {error}");
                return Ok(self.wait(now_ms));
            }
        };
        let (by, seen_until) = (version.to_string().into(), metadata.seen_until());
        self.slot.put_challenger(Some(Live { version: by, model, seen_until, held_out: Vec::new() }));
        self.window.ask(Some(version));
        tracing::info!(%version, "{version} forecasts beside what is published, to be compared");
        Ok(Phase::Shadow { version, champion, since_ms: now_ms, held_out })
    }

    fn has_seen_enough(&self, since_ms: i64, now_ms: i64) -> bool {
        let shadow_ms = i64::try_from(self.settings().shadow.as_millis()).unwrap_or(i64::MAX);
        let duel = self.window.duel();
        for (of, error) in [("challenger", duel.challenger_error), ("published", duel.published_error)] {
            metrics::gauge!("traffic_challenger_mae_kmh", "of" => of).set(error / duel.scored.max(1.0));
        }
        has_passed(shadow_ms, since_ms, now_ms) && duel.scored >= ENOUGH
    }

    /// The live forecasts decide.
    fn judge(&mut self, version: Version, champion: Option<Version>, held_out: Option<f64>) -> Result<Phase, Failed> {
        let (duel, now_ms) = (self.window.duel(), self.process.clock.now_ms());
        let live = duel.improvement().unwrap_or(0.0);
        if live <= 0.0 {
            count("outdone");
            tracing::info!(
                %version, improvement = live,
                "{version} is not promoted: its {:.0} live forecasts were off by {:.1} % more than what was published",
                duel.scored, -live * 100.0
            );
            return Ok(self.wait(now_ms));
        }
        let reason = format!(
            "mean absolute error {:.1} % below what was published, over {:.0} live forecasts{}",
            live * 100.0,
            duel.scored,
            held_out.map_or(String::new(), |share| format!("; {:.1} % on the days held out", share * 100.0))
        );
        let order = Order { by: &self.process.config.instance, at_ms: now_ms, reason: &reason };
        let promoted = self.registry.promote_automatically(version, champion, &order);
        let promoted = self.process.runtime().block_on(promoted)?;
        tell(version, champion, Some(live), Some(&promoted));
        Ok(self.wait(now_ms))
    }
}

/// Reads the archive and trains.
fn fit(process: &Process, registry: &Registry) -> Result<Outcome, Failed> {
    let (config, runtime) = (&process.config, process.runtime());
    let set = &config.predictor.retrain;
    let store = process.store()?;
    let to_ms = process.clock.now_ms().div_euclid(HOUR_MS) * HOUR_MS;
    let topic = config.topics.names().aggregates;
    let read = history::read(&store, &topic, to_ms - i64::from(set.days) * DAY_MS, to_ms, &|| ());
    let series = runtime.block_on(read)?.without_empty_ends();
    let edges = runtime.block_on(graph::reference(&store, &series))?;
    let wish = Wish {
        held_out_days: set.held_out_days as usize,
        margin: set.margin,
        promote: set.shadow.is_zero(),
        shadow: !set.shadow.is_zero(),
        by: &config.instance,
        description: "scheduled",
    };
    let settings = Settings::from(config);
    Ok(train(registry, runtime, process.clock.as_ref(), (&series, &edges), &settings, &wish, &|_, _, _| ())?)
}

fn count(outcome: &'static str) {
    metrics::counter!("traffic_trainings_total", "outcome" => outcome).increment(1);
}

fn tell(version: Version, champion: Option<Version>, improvement: Option<f64>, promotion: Option<&Automatic>) {
    let better = improvement
        .zip(champion)
        .map_or(String::new(), |(share, champion)| format!(" ({:+.1} % of the error of {champion})", -share * 100.0));
    match promotion {
        Some(Automatic::Promoted(_)) => {
            count("promoted");
            tracing::info!(%version, "{version} is promoted{better}: workers go on with it from the next window");
        }
        Some(Automatic::Refused(why)) => {
            count("refused");
            tracing::warn!(%version, "{version} is not promoted{better}: {why}");
        }
        None => {
            count("outdone");
            tracing::info!(%version, "{version} is not promoted{better}: it is not better by predictor.retrain.margin");
        }
    }
}
