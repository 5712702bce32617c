//! Locks between processes: files that the kernel unlocks when their holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::connection::{BUSY_TIMEOUT, DISK_FULL};
use super::now;
use crate::stream::log::LogError;

/// The right to be the one member of an application id; given back when dropped.
#[derive(Debug)]
pub(super) struct ApplicationLock {
    _file: File,
}

impl ApplicationLock {
    /// # Errors
    /// `Fatal` if another member holds it, or if the application id cannot be part of a file name.
    pub fn take(log: &Path, application_id: &str) -> Result<Self, LogError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if application_id.is_empty() || !application_id.chars().all(plain) {
            return Err(LogError::Fatal(format!(
                "application id {application_id:?}: only letters, digits, `.`, `_` and `-` are allowed; change --application-id"
            )));
        }
        let path = beside(log, application_id);
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: whoever holds the lock may be just about to write its id.
                let _ = file.read_to_string(&mut holder);
                return Err(LogError::Fatal(format!(
                    "process {} already runs application id {application_id:?} on the log {} (lock file {}): a log in a file has one member for each application id; stop that process, or give this one another --application-id",
                    holder.trim(),
                    log.display(),
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&path, &error)),
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| unusable(&path, &error))?;
        Ok(Self { _file: file })
    }
}

/// Makes processes take turns in writing.
///
/// SQLite's own wait is a poll with growing pauses, so a process that writes without a break starves the
/// others. Here whoever waits for the write lock holds the turn, and nobody else may try meanwhile.
#[derive(Debug)]
pub(super) struct Turnstile {
    file: File,
    path: PathBuf,
}

impl Turnstile {
    pub fn open(log: &Path) -> Result<Self, LogError> {
        let path = beside(log, "turn");
        Ok(Self { file: open(&path)?, path })
    }

    /// Runs `act` while holding the turn.
    pub fn pass<T>(&self, act: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
        self.take()?;
        let done = act();
        self.file.unlock().map_err(|error| unusable(&self.path, &error))?;
        done
    }

    /// Bounded, unlike the kernel's own wait: a stopped process must not stop all others without a word.
    fn take(&self) -> Result<(), LogError> {
        const PAUSE: Duration = Duration::from_millis(1);
        let deadline = now() + 2 * BUSY_TIMEOUT;
        loop {
            match self.file.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::Error(error)) => return Err(unusable(&self.path, &error)),
                Err(TryLockError::WouldBlock) if now() < deadline => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    return Err(LogError::Retry(format!(
                        "another process has kept {} locked for seconds: look for one that is stopped or holds a transaction",
                        self.path.display()
                    )));
                }
            }
        }
    }
}

/// `<log>.<what>.lock`
fn beside(log: &Path, what: &str) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{what}.lock"));
    PathBuf::from(name)
}

fn open(path: &Path) -> Result<File, LogError> {
    // Never removed: a lock on a removed file would exclude nobody.
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    file.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> LogError {
    let mend = match error.kind() {
        ErrorKind::StorageFull => DISK_FULL,
        _ => "check that its directory exists and may be written by this user",
    };
    LogError::Retry(format!("cannot use the lock file {}: {error}; {mend}", path.display()))
}
