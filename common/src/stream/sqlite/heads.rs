//! Where partitions end, as this process knows it, and the waiting for them to grow.
//!
//! Writes of this process are known at once. Those of others are found by one thread, which looks at
//! SQLite's change counter while somebody waits, unless the write-ahead log has long been still; nobody
//! polls on its own.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::schema::PartitionId;
use super::{Shared, now};
use crate::stream::log::LogError;

/// How often other processes' writes are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

#[derive(Debug, Default)]
pub(super) struct Heads {
    state: Mutex<State>,
    /// A head has grown, or the log is closed.
    grown: Condvar,
    /// Somebody has begun to wait, or the log is closed.
    wanted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// By partition id: the next offset.
    next: Vec<i64>,
    waiting: usize,
    closed: bool,
}

impl Heads {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what was committed. Heads only grow, so it does not matter who tells first.
    pub fn publish(&self, heads: impl IntoIterator<Item = (PartitionId, i64)>) {
        let mut state = self.lock();
        let mut grown = false;
        for (partition, next) in heads {
            let index = partition.index();
            if state.next.len() <= index {
                state.next.resize(index + 1, 0);
            }
            if state.next[index] < next {
                state.next[index] = next;
                grown = true;
            }
        }
        drop(state);
        if grown {
            self.grown.notify_all();
        }
    }

    pub fn get(&self, partition: PartitionId) -> i64 {
        self.lock().next.get(partition.index()).copied().unwrap_or(0)
    }

    /// Waits until one of these partitions reaches beyond its position.
    pub fn wait(&self, positions: &[(PartitionId, i64)], timeout: Duration) {
        let mut state = self.lock();
        state.waiting += 1;
        self.wanted.notify_one();
        let behind = |state: &State, (partition, position): &(PartitionId, i64)| {
            state.next.get(partition.index()).is_some_and(|next| next > position)
        };
        let none_yet = |state: &mut State| !positions.iter().any(|at| behind(state, at));
        let (mut state, _) =
            self.grown.wait_timeout_while(state, timeout, none_yet).unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
    }

    pub fn close(&self) {
        self.lock().closed = true;
        self.wanted.notify_all();
    }

    /// Waits for the next moment to look for other processes' writes; `false` once the log is closed.
    fn next_look(&self) -> bool {
        let idle = |state: &mut State| state.waiting == 0 && !state.closed;
        let state = self.wanted.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        let open = |state: &mut State| !state.closed;
        let (state, _) =
            self.wanted.wait_timeout_while(state, LOOK_INTERVAL, open).unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }
}

/// Whether the write-ahead log has been still for so long that looking closer is of no use.
///
/// Asks for the file's size and time only: opening and closing a file that SQLite has locked would unlock it.
struct Stillness {
    file: PathBuf,
    seen: Option<(u64, SystemTime)>,
    since: Instant,
}

impl Stillness {
    /// Many times the steps in which file systems count time, so that two writes in one step are not missed.
    const LONG: Duration = Duration::from_secs(1);

    fn of(log: &Path) -> Self {
        let mut file = log.as_os_str().to_owned();
        file.push("-wal");
        Self { file: PathBuf::from(file), seen: None, since: now() }
    }

    fn is_long(&mut self) -> bool {
        let seen = |file: Metadata| Some((file.len(), file.modified().ok()?));
        let seen = std::fs::metadata(&self.file).ok().and_then(seen);
        if seen.is_none() || seen != self.seen {
            self.seen = seen;
            self.since = now();
        }
        now().duration_since(self.since) >= Self::LONG
    }
}

/// Starts the thread that notices other processes' writes; it ends with the log.
pub(super) fn watch(path: &Path, heads: Arc<Heads>, log: Weak<Shared>) -> Result<(), LogError> {
    let mut stillness = Stillness::of(path);
    let look = move || {
        while heads.next_look() {
            if stillness.is_long() {
                continue;
            }
            let Some(log) = log.upgrade() else { return };
            // Whoever waits asks the file itself before it reports an end, and reports what is wrong.
            if let Err(error) = log.look() {
                tracing::debug!(%error, "cannot look for other processes' writes");
            }
        }
    };
    let started = thread::Builder::new().name("log-watch".to_owned()).spawn(look);
    started.map(|_| ()).map_err(|error| LogError::Retry(format!("cannot start the log's watching thread: {error}")))
}
