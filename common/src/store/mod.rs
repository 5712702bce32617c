//! The file store: a directory, HDFS or memory behind one small port.
//!
//! Paths are absolute and separated by `/` (`/traffic-data/raw/…`), wherever the store keeps them.
//! Every store keeps these promises, on which the archive and the model registry rely:
//!
//! - **A path exists only with its whole content.** Bytes are written under a name that begins with a
//!   dot and renamed when they are complete and safe on disk; listings skip such names.
//! - **Nothing is overwritten** except by [`Store::replace`]. Of two writers that create or rename to one
//!   path at once exactly one is told that it did.
//! - **[`StoreError::Retry`] leaves open whether it was done**, now or later: read back before going on.
//!
//! | file | owns |
//! |---|---|
//! | `local.rs` | a directory: hard links, fsync |
//! | `hdfs.rs` | HDFS: timeouts, error texts, half-written files |
//! | `memory.rs` | tests and the simulator: faults before, after and long after an operation |

mod hdfs;
mod local;
pub mod memory;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use hdfs::{HdfsStore, HdfsWriter};
use local::{LocalStore, LocalWriter};
use memory::{MemoryStore, MemoryWriter};

/// Why the store did not do what it was asked: what, where, how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Out of reach for now. Whether it was done is open: read back, or try again later.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help.
    #[error("{0}")]
    Fatal(String),
}

/// What [`Store::create_if_absent`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    Created,
    Exists,
}

/// What [`Store::rename`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renaming {
    Renamed,
    SourceMissing,
    TargetExists,
}

/// One file or directory in a listing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub path: String,
    /// 0 for a directory.
    pub size_bytes: u64,
    pub is_dir: bool,
}

impl Entry {
    /// The last part of the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// How a store is to be reached; a local directory needs none of it.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Longest wait for one HDFS call, after which it counts as unreachable.
    pub timeout: Duration,
    /// Copies of each HDFS block; `None`: the cluster's own setting.
    pub replication: Option<u32>,
    /// HDFS user; `None`: `HADOOP_USER_NAME`, or the user this process runs as.
    pub user: Option<String>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), replication: None, user: None }
    }
}

/// A place for files. Cheap to clone; its methods need a Tokio runtime.
#[derive(Debug, Clone)]
pub enum Store {
    Local(Arc<LocalStore>),
    Hdfs(Arc<HdfsStore>),
    Memory(MemoryStore),
}

/// Opens `file:///directory` or `hdfs://namenode:port`.
///
/// # Errors
/// `Fatal` where the URL is neither, or the directory cannot be made. An HDFS that does not answer is
/// found out by the first call, not here.
pub fn open(url: &str, options: &StoreOptions) -> Result<Store, StoreError> {
    if let Some(directory) = url.strip_prefix("file://") {
        if !directory.starts_with('/') {
            return Err(StoreError::Fatal(format!(
                "store {url:?}: a local store needs an absolute directory, as in file:///var/lib/traffic"
            )));
        }
        return Ok(Store::Local(Arc::new(LocalStore::open(Path::new(directory))?)));
    }
    if url.starts_with("hdfs://") {
        return Ok(Store::Hdfs(Arc::new(HdfsStore::open(url, options)?)));
    }
    Err(StoreError::Fatal(format!("store {url:?}: expected file:///directory or hdfs://namenode:port")))
}

impl Store {
    /// Creates a file with this content unless its path is taken.
    pub async fn create_if_absent(&self, path: &str, content: Bytes) -> Result<Creation, StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.create_if_absent(path, content).await,
            Self::Hdfs(store) => store.create_if_absent(path, content).await,
            Self::Memory(store) => store.create_if_absent(path, &content),
        }
    }

    /// Puts this content in place of whatever the path held, at once: a reader sees the old or the new.
    pub async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.replace(path, content).await,
            Self::Hdfs(store) => store.replace(path, content).await,
            Self::Memory(store) => store.replace(path, &content),
        }
    }

    /// The whole content; `None` if there is no such file.
    pub async fn read(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.read(path, None).await,
            Self::Hdfs(store) => store.read(path, None).await,
            Self::Memory(store) => store.read(path, None),
        }
    }

    /// Bytes `range` of a file, cut short at its end; `None` if there is no such file.
    pub async fn read_range(&self, path: &str, range: Range<u64>) -> Result<Option<Bytes>, StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.read(path, Some(range)).await,
            Self::Hdfs(store) => store.read(path, Some(range)).await,
            Self::Memory(store) => store.read(path, Some(range)),
        }
    }

    /// A file's length; `None` if there is no such file.
    pub async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.size(path).await,
            Self::Hdfs(store) => store.size(path).await,
            Self::Memory(store) => store.size(path),
        }
    }

    /// Whether there is such a file.
    pub async fn exists(&self, path: &str) -> Result<bool, StoreError> {
        Ok(self.size(path).await?.is_some())
    }

    /// What a directory holds, sorted by path; nothing if there is no such directory. `recursive` lists
    /// the files of the whole tree. Names that begin with a dot are left out.
    pub async fn list(&self, dir: &str, recursive: bool) -> Result<Vec<Entry>, StoreError> {
        check(dir)?;
        let mut entries = match self {
            Self::Local(store) => store.list(dir, recursive).await,
            Self::Hdfs(store) => store.list(dir, recursive).await,
            Self::Memory(store) => store.list(dir, recursive),
        }?;
        entries.sort_unstable();
        Ok(entries)
    }

    /// Moves a file to a path that must be free; directories above it are made.
    pub async fn rename(&self, from: &str, to: &str) -> Result<Renaming, StoreError> {
        check(from)?;
        check(to)?;
        match self {
            Self::Local(store) => store.rename(from, to).await,
            Self::Hdfs(store) => store.rename(from, to).await,
            Self::Memory(store) => store.rename(from, to),
        }
    }

    /// Removes a file; whether there was one.
    pub async fn delete(&self, path: &str) -> Result<bool, StoreError> {
        check(path)?;
        match self {
            Self::Local(store) => store.delete(path).await,
            Self::Hdfs(store) => store.delete(path, false).await,
            Self::Memory(store) => store.delete(path),
        }
    }

    /// Removes a directory and everything in it, if there is one.
    pub async fn delete_dir(&self, dir: &str) -> Result<(), StoreError> {
        check(dir)?;
        match self {
            Self::Local(store) => store.delete_dir(dir).await,
            Self::Hdfs(store) => store.delete(dir, true).await.map(|_| ()),
            Self::Memory(store) => store.delete_dir(dir),
        }
    }

    /// Removes the half-written files that dead writers left directly in a directory. Only its one owner
    /// may do so: a live writer's file would go too, and its writer fail.
    pub async fn sweep(&self, dir: &str) -> Result<usize, StoreError> {
        check(dir)?;
        match self {
            Self::Local(store) => store.sweep(dir).await,
            Self::Hdfs(store) => store.sweep(dir).await,
            Self::Memory(store) => store.sweep(dir),
        }
    }

    /// Begins a file that exists once [`Writer::close`] has returned.
    pub async fn create(&self, path: &str) -> Result<Writer, StoreError> {
        check(path)?;
        Ok(match self {
            Self::Local(store) => Writer::Local(store.create(path).await?),
            Self::Hdfs(store) => Writer::Hdfs(Box::new(Arc::clone(store).create(path).await?)),
            Self::Memory(store) => Writer::Memory(store.create(path)?),
        })
    }
}

/// A file being written. After an error it is of no more use.
#[derive(Debug)]
pub enum Writer {
    Local(LocalWriter),
    Hdfs(Box<HdfsWriter>),
    Memory(MemoryWriter),
}

impl Writer {
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        match self {
            Self::Local(writer) => writer.write(bytes).await,
            Self::Hdfs(writer) => writer.write(bytes).await,
            Self::Memory(writer) => writer.write(&bytes),
        }
    }

    /// Makes the bytes safe and the file exist. A path taken meanwhile is `Fatal`.
    pub async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Local(writer) => writer.close().await,
            Self::Hdfs(writer) => writer.close().await,
            Self::Memory(writer) => writer.close(),
        }
    }

    /// Throws away what was written, as far as the store can be reached.
    pub async fn abandon(self) {
        match self {
            Self::Local(writer) => writer.abandon().await,
            Self::Hdfs(writer) => writer.abandon().await,
            Self::Memory(_) => {}
        }
    }
}

/// The directory that a path is in.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Where a file is written before it exists.
fn hidden(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or_default();
    let unique = uuid::Uuid::new_v4().simple();
    format!("{}/.{name}.{unique}.tmp", parent(path).trim_end_matches('/'))
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Whether a path is one of a store: absolute, no part empty or beginning with a dot.
#[must_use]
pub fn is_sound(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && !part.contains(['\0', '\\']))
        })
}

fn check(path: &str) -> Result<(), StoreError> {
    if is_sound(path) {
        return Ok(());
    }
    Err(StoreError::Fatal(format!(
        "store path {path:?}: must begin with / and have no empty part and none beginning with a dot"
    )))
}

#[cfg(test)]
mod tests;
