//! A store in HDFS.
//!
//! What the client library does under faults shapes this file:
//!
//! - Its calls have no timeout of their own: a frozen namenode would hold them for ever. Every call gets one,
//!   and after a timeout a new client is made, so that a connection to a dead host is not used again.
//! - `hsync` can hang when a datanode dies, so it is never used: a file counts once it is closed, and the
//!   namenode completes a file only when every block has its minimum of copies.
//! - A lost answer to `rename` is ambiguous; removing the hidden source decides it for all times after.
//! - Its error texts carry Java stack traces: only the first line is kept.

use std::fmt;
use std::future::Future;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdfs_native::client::FileStatus;
use hdfs_native::file::FileWriter;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};

use super::{Creation, Entry, Renaming, StoreError, StoreOptions, hidden, is_hidden, parent};

/// How much is handed to the client at once, so that its timeout means something.
const CHUNK_BYTES: usize = 1 << 20;
/// What is wrong where Kerberos has no ticket for us.
const TICKET: &str = "get a ticket (kinit -k -t KEYTAB PRINCIPAL, into what KRB5CCNAME names), or name the keytab in \
                      KRB5_CLIENT_KTNAME";
/// How long a dead writer's file may take to be closed by the namenode.
const LEASE_POLLS: u32 = 20;
const LEASE_POLL: Duration = Duration::from_millis(250);

pub struct HdfsStore {
    url: String,
    options: StoreOptions,
    client: Mutex<Client>,
}

impl fmt::Debug for HdfsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HdfsStore").field("url", &self.url).finish_non_exhaustive()
    }
}

enum Failure {
    Hdfs(HdfsError),
    Timeout,
}

impl HdfsStore {
    pub(super) fn open(url: &str, options: &StoreOptions) -> Result<Self, StoreError> {
        let client = Mutex::new(connect(url, options)?);
        Ok(Self { url: url.to_owned(), options: options.clone(), client })
    }

    fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn call<T>(&self, work: impl Future<Output = Result<T, HdfsError>>) -> Result<T, Failure> {
        match tokio::time::timeout(self.options.timeout, work).await {
            Ok(result) => result.map_err(Failure::Hdfs),
            Err(_) => {
                // The settings were good before, so this does not fail; if it did, the old client stays.
                if let Ok(fresh) = connect(&self.url, &self.options) {
                    *self.client.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                }
                Err(Failure::Timeout)
            }
        }
    }

    fn failed(&self, what: &str, path: &str, failure: &Failure) -> StoreError {
        let place = format!("{what} {}{path}", self.url.trim_end_matches('/'));
        match failure {
            Failure::Timeout => StoreError::Retry(format!(
                "{place}: no answer within {} s; is the namenode alive and reachable?",
                self.options.timeout.as_secs_f64()
            )),
            Failure::Hdfs(error) => explain(&place, error),
        }
    }

    async fn status(&self, what: &str, path: &str) -> Result<Option<FileStatus>, StoreError> {
        let client = self.client();
        match self.call(client.get_file_info(path)).await {
            Ok(status) => Ok(Some(status)),
            Err(failure) if is_missing(&failure) => Ok(None),
            Err(failure) => Err(self.failed(what, path, &failure)),
        }
    }

    pub(super) async fn create_if_absent(self: &Arc<Self>, path: &str, content: Bytes) -> Result<Creation, StoreError> {
        if self.status("create", path).await?.is_some() {
            return Ok(Creation::Exists);
        }
        let temporary = self.write_hidden(path, content).await?;
        self.name_hidden(&temporary, path).await
    }

    pub(super) async fn replace(self: &Arc<Self>, path: &str, content: Bytes) -> Result<(), StoreError> {
        let temporary = self.write_hidden(path, content).await?;
        let client = self.client();
        let renamed = self.call(client.rename(&temporary, path, true)).await;
        renamed.map_err(|failure| self.failed("replace", path, &failure))
    }

    async fn write_hidden(self: &Arc<Self>, path: &str, content: Bytes) -> Result<String, StoreError> {
        let mut writer = Arc::clone(self).create(path).await?;
        if let Err(error) = writer.write(content).await {
            writer.abandon().await;
            return Err(error);
        }
        if let Err(error) = writer.complete().await {
            writer.abandon().await;
            return Err(error);
        }
        Ok(writer.temporary)
    }

    /// Gives a complete file its name, or removes it where the name is taken.
    async fn name_hidden(&self, temporary: &str, path: &str) -> Result<Creation, StoreError> {
        let client = self.client();
        let failure = match self.call(client.rename(temporary, path, false)).await {
            Ok(()) => return Ok(Creation::Created),
            Err(failure) => failure,
        };
        // Without its source the rename cannot happen later either. Where this fails too, the answer stays open.
        let client = self.client();
        let removed = self.call(client.delete(temporary, false)).await;
        match failure {
            Failure::Hdfs(HdfsError::AlreadyExists(_)) => removed.map(|_| Creation::Exists),
            failure => Err(failure),
        }
        .map_err(|failure| self.failed("create", path, &failure))
    }

    pub(super) async fn read(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Bytes>, StoreError> {
        let client = self.client();
        let reader = match self.call(client.read(path)).await {
            Ok(reader) => reader,
            Err(failure) if is_missing(&failure) => return Ok(None),
            Err(failure) => return Err(self.failed("read", path, &failure)),
        };
        let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(reader.file_length());
        let range = range.map_or(0..reader.file_length(), |r| clamp(r.start)..clamp(r.end));
        let mut content = Vec::with_capacity(range.len());
        let mut at = range.start;
        while at < range.end {
            let part = self.call(reader.read_range(at, (range.end - at).min(8 * CHUNK_BYTES))).await;
            let part = part.map_err(|failure| self.failed("read", path, &failure))?;
            if part.is_empty() {
                return Err(StoreError::Retry(format!("read {}{path}: it ends at byte {at}, too early", self.url)));
            }
            at += part.len();
            content.extend_from_slice(&part);
        }
        Ok(Some(Bytes::from(content)))
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>, StoreError> {
        let status = self.status("look at", path).await?;
        Ok(status.filter(|s| !s.isdir).map(|s| s.length as u64))
    }

    /// Directory by directory: the library's own recursive listing fails when one vanishes meanwhile.
    pub(super) async fn list(&self, dir: &str, recursive: bool) -> Result<Vec<Entry>, StoreError> {
        let mut found = Vec::new();
        let mut open = vec![dir.to_owned()];
        while let Some(dir) = open.pop() {
            for status in self.list_one(&dir).await? {
                let entry = Entry { path: status.path, size_bytes: status.length as u64, is_dir: status.isdir };
                if is_hidden(entry.name()) {
                    continue;
                }
                if recursive && entry.is_dir {
                    open.push(entry.path);
                } else {
                    found.push(entry);
                }
            }
        }
        Ok(found)
    }

    async fn list_one(&self, dir: &str) -> Result<Vec<FileStatus>, StoreError> {
        let client = self.client();
        match self.call(client.list_status(dir, false)).await {
            Ok(statuses) => Ok(statuses),
            Err(failure) if is_missing(&failure) => Ok(Vec::new()),
            Err(failure) => Err(self.failed("list", dir, &failure)),
        }
    }

    pub(super) async fn rename(&self, from: &str, to: &str) -> Result<Renaming, StoreError> {
        let mut made_dirs = false;
        loop {
            let client = self.client();
            match self.call(client.rename(from, to, false)).await {
                Ok(()) => return Ok(Renaming::Renamed),
                Err(Failure::Hdfs(HdfsError::AlreadyExists(_))) => return Ok(Renaming::TargetExists),
                // The source or the directory of the target is missing.
                Err(failure) if is_missing(&failure) => {
                    if self.status("rename", from).await?.is_none() {
                        return Ok(Renaming::SourceMissing);
                    }
                    if made_dirs {
                        return Err(self.failed("rename", from, &failure));
                    }
                    let client = self.client();
                    let made = self.call(client.mkdirs(parent(to), 0o755, true)).await;
                    made.map_err(|failure| self.failed("make directory", parent(to), &failure))?;
                    made_dirs = true;
                }
                Err(failure) => return Err(self.failed("rename", from, &failure)),
            }
        }
    }

    pub(super) async fn delete(&self, path: &str, recursive: bool) -> Result<bool, StoreError> {
        let client = self.client();
        match self.call(client.delete(path, recursive)).await {
            Ok(removed) => Ok(removed),
            Err(failure) if is_missing(&failure) => Ok(false),
            Err(failure) => Err(self.failed("delete", path, &failure)),
        }
    }

    pub(super) async fn sweep(&self, dir: &str) -> Result<usize, StoreError> {
        let mut removed = 0;
        for status in self.list_one(dir).await? {
            let name = status.path.rsplit('/').next().unwrap_or_default();
            // Deleting an open file ends its lease.
            if !status.isdir && is_hidden(name) && self.delete(&status.path, false).await? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    pub(super) async fn create(self: Arc<Self>, path: &str) -> Result<HdfsWriter, StoreError> {
        let temporary = hidden(path);
        let mut options = WriteOptions::default();
        options.replication = self.options.replication;
        let client = self.client();
        let writer = self.call(client.create(&temporary, &options)).await;
        let writer = writer.map_err(|failure| self.failed("create", path, &failure))?;
        Ok(HdfsWriter { path: path.to_owned(), temporary, writer, store: self })
    }

    /// Ends a dead writer's hold on its file, so that the file can be removed or read.
    async fn recover_lease(&self, path: &str) {
        for _ in 0..LEASE_POLLS {
            let client = self.client();
            match self.call(client.recover_lease(path)).await {
                Ok(false) => tokio::time::sleep(LEASE_POLL).await,
                Ok(true) | Err(_) => return,
            }
        }
    }
}

/// A file under its hidden name.
pub struct HdfsWriter {
    store: Arc<HdfsStore>,
    path: String,
    temporary: String,
    writer: FileWriter,
}

impl fmt::Debug for HdfsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HdfsWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl HdfsWriter {
    pub(super) async fn write(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let chunk = bytes.split_to(bytes.len().min(CHUNK_BYTES));
            let written = self.store.call(self.writer.write_bytes(chunk)).await;
            written.map_err(|failure| self.store.failed("write", &self.path, &failure))?;
        }
        Ok(())
    }

    async fn complete(&mut self) -> Result<(), StoreError> {
        let closed = self.store.call(self.writer.close()).await;
        closed.map_err(|failure| self.store.failed("close", &self.path, &failure))
    }

    pub(super) async fn close(mut self) -> Result<(), StoreError> {
        self.complete().await?;
        match self.store.name_hidden(&self.temporary, &self.path).await? {
            Creation::Created => Ok(()),
            Creation::Exists => Err(StoreError::Fatal(format!("close {}: the path is taken", self.path))),
        }
    }

    pub(super) async fn abandon(self) {
        let Self { store, temporary, writer, .. } = self;
        drop(writer);
        // Deleting takes the lease with it; where that is refused the lease is recovered first. What is left
        // is a hidden file: the namenode closes it in time and a later sweep removes it.
        if store.delete(&temporary, false).await.is_err() {
            store.recover_lease(&temporary).await;
            let _ = store.delete(&temporary, false).await;
        }
    }
}

fn connect(url: &str, options: &StoreOptions) -> Result<Client, StoreError> {
    let settings = [
        // A pipeline that lost a node goes on with the others.
        ("dfs.client.block.write.replace-datanode-on-failure.enable", "true"),
        ("dfs.client.block.write.replace-datanode-on-failure.policy", "DEFAULT"),
        ("dfs.client.block.write.replace-datanode-on-failure.best-effort", "true"),
        // By default a dead namenode is tried for three minutes; whoever calls retries anyway.
        ("dfs.client.failover.max.attempts", "3"),
        ("dfs.client.failover.sleep.base.millis", "100"),
        ("dfs.client.failover.sleep.max.millis", "1000"),
    ];
    let mut builder = ClientBuilder::new().with_url(url).with_config(settings);
    if let Some(user) = &options.user {
        builder = builder.with_user(user);
    }
    builder.build().map_err(|e| StoreError::Fatal(format!("store {url:?}: {}", first_line(&e.to_string()))))
}

fn is_missing(failure: &Failure) -> bool {
    match failure {
        Failure::Hdfs(HdfsError::FileNotFound(_)) => true,
        Failure::Hdfs(HdfsError::RPCError(class, _)) => class == "java.io.FileNotFoundException",
        _ => false,
    }
}

fn explain(place: &str, error: &HdfsError) -> StoreError {
    let text = first_line(&error.to_string());
    match error {
        HdfsError::RPCError(class, message) | HdfsError::FatalRPCError(class, message) => {
            explain_rpc(place, class, &first_line(message))
        }
        HdfsError::InvalidArgument(_)
        | HdfsError::InvalidPath(_)
        | HdfsError::UrlParseError(_)
        | HdfsError::IsADirectoryError(_)
        | HdfsError::UnsupportedFeature(_)
        | HdfsError::XmlParseError(_) => StoreError::Fatal(format!("{place}: {text}")),
        // A ticket comes or is renewed while we wait. The rest of the library's text is numbers.
        HdfsError::GSSAPIError(_, _, why) => {
            let why = why.trim_start_matches("Unspecified GSS failure.  Minor code may provide more information: ");
            StoreError::Retry(format!("{place}: {}; {TICKET}", first_line(why)))
        }
        HdfsError::SASLError(_) | HdfsError::NoSASLMechanism => StoreError::Fatal(format!(
            "{place}: {text}; are core-site.xml and hdfs-site.xml in HADOOP_CONF_DIR those of this cluster?"
        )),
        HdfsError::OperationFailed(why) if why.contains("libgssapi") => {
            StoreError::Fatal(format!("{place}: {text}; install Kerberos' library (Debian: libgssapi-krb5-2)"))
        }
        // So ends a connection that speaks of no user to a namenode that asks for a ticket.
        HdfsError::IOError(why) if why.kind() == ErrorKind::ConnectionAborted => StoreError::Retry(format!(
            "{place}: the namenode hung up; is it being restarted, or does it ask for Kerberos? Then core-site.xml in \
             HADOOP_CONF_DIR must say so (hadoop.security.authentication)"
        )),
        HdfsError::IOError(_) => {
            StoreError::Retry(format!("{place}: {text}; is the namenode running, and the address right?"))
        }
        HdfsError::DataTransferError(_) => StoreError::Retry(format!(
            "{place}: {text}; are the datanodes running and reachable from here, and does hdfs-site.xml in \
             HADOOP_CONF_DIR have the cluster's dfs.data.transfer.protection?"
        )),
        _ => StoreError::Retry(format!("{place}: {text}")),
    }
}

fn explain_rpc(place: &str, class: &str, message: &str) -> StoreError {
    let name = class.rsplit(['.', '$']).next().unwrap_or(class);
    match name {
        "AccessControlException" => StoreError::Fatal(format!(
            "{place}: {message}; run as another user (HADOOP_USER_NAME; with Kerberos, another principal's ticket) or \
             have an administrator chown the directory"
        )),
        "SaslException" | "GSSException" => StoreError::Retry(format!(
            "{place}: the namenode did not take the ticket: {message}; are the clocks the same, and is it of this realm?"
        )),
        "SafeModeException" => StoreError::Retry(format!(
            "{place}: the namenode is in safe mode; it leaves it when enough blocks are reported"
        )),
        "NSQuotaExceededException" | "DSQuotaExceededException" => {
            StoreError::Retry(format!("{place}: {message}; raise the quota or free some space"))
        }
        "ParentNotDirectoryException" | "InvalidPathException" | "PathIsNotEmptyDirectoryException" => {
            StoreError::Fatal(format!("{place}: {name}: {message}"))
        }
        _ => StoreError::Retry(format!("{place}: {name}: {message}")),
    }
}

fn first_line(text: &str) -> String {
    const LONGEST: usize = 300;
    let line = text.lines().next().unwrap_or_default().trim();
    line.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do_and_leaves_the_stack_trace_out() {
        let trace = "Permission denied: user=nobody\n\tat org.apache.hadoop.hdfs.server.namenode".to_owned();
        let class = "org.apache.hadoop.security.AccessControlException".to_owned();
        let StoreError::Fatal(text) = explain("create hdfs://n:9000/a", &HdfsError::RPCError(class, trace)) else {
            panic!("no right to write does not mend itself");
        };
        assert!(text.starts_with("create hdfs://n:9000/a: Permission denied: user=nobody; run as"), "{text}");
        assert!(!text.contains("\tat"), "{text}");
    }

    #[test]
    fn what_kerberos_lacks_is_named() {
        let place = "list hdfs://n:9000/a";
        let hung_up = std::io::Error::new(ErrorKind::ConnectionAborted, "RPC listener disconnected");
        let StoreError::Retry(text) = explain(place, &HdfsError::IOError(hung_up)) else {
            panic!("a namenode may be restarted");
        };
        assert!(text.contains("hadoop.security.authentication"), "{text}");
        let StoreError::Fatal(text) =
            explain(place, &HdfsError::OperationFailed("Failed to load libgssapi_krb".to_owned()))
        else {
            panic!("it is looked for once in a process");
        };
        assert!(text.contains("libgssapi-krb5-2"), "{text}");
        let class = "javax.security.sasl.SaslException".to_owned();
        let refused = explain(place, &HdfsError::FatalRPCError(class, "GSS initiate failed".to_owned()));
        assert!(matches!(&refused, StoreError::Retry(text) if text.contains("clocks")), "{refused:?}");
    }

    #[test]
    fn safe_mode_passes() {
        let class = "org.apache.hadoop.hdfs.server.namenode.SafeModeException".to_owned();
        let error = explain("create hdfs://n:9000/a", &HdfsError::RPCError(class, String::new()));
        assert!(matches!(error, StoreError::Retry(_)), "{error:?}");
    }
}
