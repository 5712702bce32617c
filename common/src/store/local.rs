//! A store in a local directory.
//!
//! Files come into being by a hard link from a finished, fsynced one, which fails where the name is taken:
//! that is what makes creating and renaming atomic without overwriting. Every change is fsynced, file and
//! directory, before it counts as done.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{Creation, Entry, Renaming, StoreError, hidden, is_hidden};

#[derive(Debug)]
pub struct LocalStore {
    root: Arc<Path>,
}

impl LocalStore {
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        make_dirs(root).map_err(|e| failed("open the store directory", root, &e))?;
        Ok(Self { root: Arc::from(root) })
    }

    fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) async fn create_if_absent(&self, path: &str, content: Bytes) -> Result<Creation, StoreError> {
        let (place, temporary) = (self.place(path), self.place(&hidden(path)));
        blocking(move || create_if_absent(&place, &temporary, &content).map_err(|e| failed("create", &place, &e))).await
    }

    pub(super) async fn replace(&self, path: &str, content: Bytes) -> Result<(), StoreError> {
        let (place, temporary) = (self.place(path), self.place(&hidden(path)));
        blocking(move || replace(&place, &temporary, &content).map_err(|e| failed("replace", &place, &e))).await
    }

    pub(super) async fn read(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let place = self.place(path);
        blocking(move || absent_is_none(read(&place, range)).map_err(|e| failed("read", &place, &e))).await
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let place = self.place(path);
        blocking(move || {
            let found = absent_is_none(fs::metadata(&place)).map_err(|e| failed("look at", &place, &e))?;
            Ok(found.filter(fs::Metadata::is_file).map(|m| m.len()))
        })
        .await
    }

    pub(super) async fn list(&self, dir: &str, recursive: bool) -> Result<Vec<Entry>, StoreError> {
        let (place, dir) = (self.place(dir), dir.trim_end_matches('/').to_owned());
        blocking(move || {
            let mut found = Vec::new();
            list(&place, &dir, recursive, &mut found).map_err(|e| failed("list", &place, &e))?;
            Ok(found)
        })
        .await
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<Renaming, StoreError> {
        let (from, to) = (self.place(from), self.place(to));
        blocking(move || rename(&from, &to).map_err(|e| failed("rename", &from, &e))).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<bool, StoreError> {
        let place = self.place(path);
        blocking(move || {
            let removed = absent_is_none(fs::remove_file(&place).and_then(|()| sync_dir(parent(&place))));
            Ok(removed.map_err(|e| failed("delete", &place, &e))?.is_some())
        })
        .await
    }

    pub(super) async fn delete_dir(&self, dir: &str) -> Result<(), StoreError> {
        let place = self.place(dir);
        blocking(move || {
            let removed = absent_is_none(fs::remove_dir_all(&place).and_then(|()| sync_dir(parent(&place))));
            removed.map(|_| ()).map_err(|e| failed("delete", &place, &e))
        })
        .await
    }

    pub(super) async fn sweep(&self, dir: &str) -> Result<usize, StoreError> {
        let place = self.place(dir);
        blocking(move || sweep(&place).map_err(|e| failed("clean", &place, &e))).await
    }

    pub(super) async fn create(&self, path: &str) -> Result<LocalWriter, StoreError> {
        let (place, temporary) = (self.place(path), self.place(&hidden(path)));
        blocking(move || {
            let file = make_dirs(parent(&place)).and_then(|()| File::create_new(&temporary));
            let file = file.map_err(|e| failed("create", &place, &e))?;
            Ok(LocalWriter { place, temporary, file: Some(file) })
        })
        .await
    }
}

/// A file under its hidden name.
#[derive(Debug)]
pub struct LocalWriter {
    place: PathBuf,
    temporary: PathBuf,
    /// Away while a write is under way; gone after one that was given up.
    file: Option<File>,
}

impl LocalWriter {
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        let mut file = self.file.take().ok_or_else(|| unusable(&self.place))?;
        let place = self.place.clone();
        let file = blocking(move || {
            file.write_all(&bytes).map_err(|e| failed("write", &place, &e))?;
            Ok(file)
        })
        .await?;
        self.file = Some(file);
        Ok(())
    }

    pub(super) async fn close(mut self) -> Result<(), StoreError> {
        let file = self.file.take().ok_or_else(|| unusable(&self.place))?;
        let (place, temporary) = (self.place, self.temporary);
        blocking(move || {
            let linked = file.sync_all().and_then(|()| link_new(&temporary, &place));
            match linked.map_err(|e| failed("close", &place, &e))? {
                Creation::Created => Ok(()),
                Creation::Exists => Err(StoreError::Fatal(format!("close {}: the path is taken", place.display()))),
            }
        })
        .await
    }

    pub(super) async fn abandon(self) {
        let temporary = self.temporary;
        // What cannot be removed now is a hidden file that a later sweep removes.
        let _ = blocking(move || fs::remove_file(&temporary).map_err(|e| failed("delete", &temporary, &e))).await;
    }
}

fn create_if_absent(place: &Path, temporary: &Path, content: &[u8]) -> io::Result<Creation> {
    if place.try_exists()? {
        return Ok(Creation::Exists);
    }
    make_dirs(parent(place))?;
    write_synced(temporary, content)?;
    link_new(temporary, place)
}

fn replace(place: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    make_dirs(parent(place))?;
    write_synced(temporary, content)?;
    fs::rename(temporary, place)?;
    sync_dir(parent(place))
}

fn write_synced(place: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(place)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Gives the finished file `temporary` its name, or removes it where the name is taken.
fn link_new(temporary: &Path, place: &Path) -> io::Result<Creation> {
    let creation = match fs::hard_link(temporary, place) {
        Ok(()) => Creation::Created,
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Creation::Exists,
        Err(e) => return Err(e),
    };
    absent_is_none(fs::remove_file(temporary))?;
    sync_dir(parent(place))?;
    Ok(creation)
}

fn rename(from: &Path, to: &Path) -> io::Result<Renaming> {
    if !from.try_exists()? {
        return Ok(Renaming::SourceMissing);
    }
    make_dirs(parent(to))?;
    match fs::hard_link(from, to) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Renaming::SourceMissing),
        // Both names of one file: an earlier rename stopped half-way.
        Err(e) if e.kind() == ErrorKind::AlreadyExists && same_file(from, to)? => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(Renaming::TargetExists),
        Err(e) => return Err(e),
    }
    sync_dir(parent(to))?;
    absent_is_none(fs::remove_file(from))?;
    sync_dir(parent(from))?;
    Ok(Renaming::Renamed)
}

fn read(place: &Path, range: Option<Range<u64>>) -> io::Result<Bytes> {
    let mut file = File::open(place)?;
    let mut content = Vec::new();
    if let Some(range) = range {
        file.seek(SeekFrom::Start(range.start))?;
        file.take(range.end.saturating_sub(range.start)).read_to_end(&mut content)?;
    } else {
        file.read_to_end(&mut content)?;
    }
    Ok(Bytes::from(content))
}

fn list(place: &Path, dir: &str, recursive: bool, found: &mut Vec<Entry>) -> io::Result<()> {
    let Some(entries) = absent_is_none(fs::read_dir(place))? else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| !is_hidden(n)) else { continue };
        let Some(about) = absent_is_none(entry.metadata())? else { continue };
        let path = format!("{dir}/{name}");
        if recursive && about.is_dir() {
            list(&entry.path(), &path, true, found)?;
        } else {
            let size_bytes = if about.is_dir() { 0 } else { about.len() };
            found.push(Entry { path, size_bytes, is_dir: about.is_dir() });
        }
    }
    Ok(())
}

fn sweep(place: &Path) -> io::Result<usize> {
    let Some(entries) = absent_is_none(fs::read_dir(place))? else { return Ok(0) };
    let mut removed = 0;
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_hidden) && entry.file_type()?.is_file() {
            absent_is_none(fs::remove_file(entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Makes a directory and those above it, each safe on disk before the next.
fn make_dirs(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    make_dirs(parent(dir))?;
    match fs::create_dir(dir) {
        Ok(()) => sync_dir(parent(dir)),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn parent(place: &Path) -> &Path {
    place.parent().unwrap_or(Path::new("/"))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn same_file(a: &Path, b: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let (a, b) = (absent_is_none(fs::metadata(a))?, absent_is_none(fs::metadata(b))?);
    Ok(matches!((a, b), (Some(a), Some(b)) if (a.dev(), a.ino()) == (b.dev(), b.ino())))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn unusable(place: &Path) -> StoreError {
    StoreError::Retry(format!("write {}: an earlier write was given up", place.display()))
}

fn failed(what: &str, place: &Path, error: &io::Error) -> StoreError {
    let place = place.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            StoreError::Fatal(format!("{what} {place}: {error}; let this process's user write there"))
        }
        ErrorKind::ReadOnlyFilesystem | ErrorKind::NotADirectory | ErrorKind::IsADirectory => {
            StoreError::Fatal(format!("{what} {place}: {error}"))
        }
        ErrorKind::Unsupported | ErrorKind::CrossesDevices => StoreError::Fatal(format!(
            "{what} {place}: {error}; the store must be one file system that has hard links (ext4, xfs, btrfs, apfs, ntfs)"
        )),
        ErrorKind::StorageFull => StoreError::Retry(format!("{what} {place}: {error}; free some space")),
        _ => StoreError::Retry(format!("{what} {place}: {error}")),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(StoreError::Retry("the runtime is shutting down".to_owned())),
    }
}
