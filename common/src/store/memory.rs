//! A store in memory, for tests and the simulator. Every handle may have a hook that decides, before each
//! operation, whether and how it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Creation, Entry, Renaming, StoreError};

/// What a handle is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// The method's name; a writer's are `write` and `close`.
    pub name: &'static str,
    pub path: &'a str,
}

/// How an operation fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not done.
    Before(StoreError),
    /// It is done, and the answer lost.
    After(StoreError),
    /// The answer is lost, and it is done that many operations later, like a request stuck in a network.
    Late(u64, StoreError),
}

/// Decides on each operation of one handle; `None` lets it be.
pub type Hook = Arc<dyn Fn(Operation<'_>) -> Option<Fault> + Send + Sync>;

type Files = BTreeMap<String, Bytes>;
/// An operation that is done later.
type Late = Box<dyn FnOnce(&mut Files) + Send>;

#[derive(Default)]
struct Shared {
    files: Files,
    /// Operations so far, over all handles.
    operations: u64,
    late: Vec<(u64, Late)>,
}

/// A handle on files in memory; clones and [`MemoryStore::with_hook`] share them.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    hook: Option<Hook>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("files", &self.lock().files.len()).finish_non_exhaustive()
    }
}

impl MemoryStore {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another handle on the same files, whose operations the hook may fail.
    #[must_use]
    pub fn with_hook(&self, hook: Hook) -> Self {
        Self { shared: Arc::clone(&self.shared), hook: Some(hook) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run<T>(
        &self,
        name: &'static str,
        path: &str,
        work: impl FnOnce(&mut Files) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let fault = self.hook.as_ref().and_then(|hook| hook(Operation { name, path }));
        let mut shared = self.lock();
        shared.operations += 1;
        let now = shared.operations;
        let (due, late) = std::mem::take(&mut shared.late).into_iter().partition(|(at, _)| *at <= now);
        shared.late = late;
        let due: Vec<(u64, Late)> = due;
        for (_, work) in due {
            work(&mut shared.files);
        }
        match fault {
            None => Ok(work(&mut shared.files)),
            Some(Fault::Before(error)) => Err(error),
            Some(Fault::After(error)) => {
                work(&mut shared.files);
                Err(error)
            }
            Some(Fault::Late(by, error)) => {
                shared.late.push((now + by, Box::new(move |files| drop(work(files)))));
                Err(error)
            }
        }
    }

    pub(super) fn create_if_absent(&self, path: &str, content: &Bytes) -> Result<Creation, StoreError> {
        let (key, content) = (path.to_owned(), content.clone());
        self.run("create_if_absent", path, move |files| insert_new(files, key, content))
    }

    pub(super) fn replace(&self, path: &str, content: &Bytes) -> Result<(), StoreError> {
        let (key, content) = (path.to_owned(), content.clone());
        self.run("replace", path, move |files| drop(files.insert(key, content)))
    }

    pub(super) fn read(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let key = path.to_owned();
        self.run("read", path, move |files| {
            let content = files.get(&key)?;
            let range = range.unwrap_or(0..u64::MAX);
            let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
            Some(content.slice(clamp(range.start)..clamp(range.end.max(range.start))))
        })
    }

    pub(super) fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let key = path.to_owned();
        self.run("size", path, move |files| files.get(&key).map(|content| content.len() as u64))
    }

    pub(super) fn list(&self, dir: &str, recursive: bool) -> Result<Vec<Entry>, StoreError> {
        let prefix = format!("{}/", dir.trim_end_matches('/'));
        self.run("list", dir, move |files| {
            let mut found: Vec<Entry> = Vec::new();
            for (path, content) in files.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix)) {
                let below = &path[prefix.len()..];
                match below.split_once('/').filter(|_| !recursive) {
                    None => found.push(Entry { path: path.clone(), size_bytes: content.len() as u64, is_dir: false }),
                    Some((name, _)) => {
                        let path = format!("{prefix}{name}");
                        if found.last().is_none_or(|last| last.path != path) {
                            found.push(Entry { path, size_bytes: 0, is_dir: true });
                        }
                    }
                }
            }
            found
        })
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<Renaming, StoreError> {
        let (source, target) = (from.to_owned(), to.to_owned());
        self.run("rename", from, move |files| {
            if !files.contains_key(&source) {
                return Renaming::SourceMissing;
            }
            if files.contains_key(&target) {
                return Renaming::TargetExists;
            }
            if let Some(content) = files.remove(&source) {
                files.insert(target, content);
            }
            Renaming::Renamed
        })
    }

    pub(super) fn delete(&self, path: &str) -> Result<bool, StoreError> {
        let key = path.to_owned();
        self.run("delete", path, move |files| files.remove(&key).is_some())
    }

    pub(super) fn delete_dir(&self, dir: &str) -> Result<(), StoreError> {
        let prefix = format!("{}/", dir.trim_end_matches('/'));
        self.run("delete_dir", dir, move |files| files.retain(|path, _| !path.starts_with(&prefix)))
    }

    pub(super) fn sweep(&self, dir: &str) -> Result<usize, StoreError> {
        self.run("sweep", dir, |_| 0)
    }

    pub(super) fn create(&self, path: &str) -> Result<MemoryWriter, StoreError> {
        self.run("create", path, |_| ())?;
        Ok(MemoryWriter { store: self.clone(), path: path.to_owned(), content: Vec::new() })
    }
}

fn insert_new(files: &mut Files, path: String, content: Bytes) -> Creation {
    if files.contains_key(&path) {
        return Creation::Exists;
    }
    files.insert(path, content);
    Creation::Created
}

/// A file that exists once it is closed.
#[derive(Debug)]
pub struct MemoryWriter {
    store: MemoryStore,
    path: String,
    content: Vec<u8>,
}

impl MemoryWriter {
    pub(super) fn write(&mut self, bytes: &Bytes) -> Result<(), StoreError> {
        self.store.run("write", &self.path, |_| ())?;
        self.content.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn close(self) -> Result<(), StoreError> {
        let (key, content) = (self.path.clone(), Bytes::from(self.content));
        match self.store.run("close", &self.path, move |files| insert_new(files, key, content))? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(StoreError::Fatal(format!("close {}: the path is taken", self.path))),
        }
    }
}
