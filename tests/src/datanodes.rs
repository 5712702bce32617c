//! A real HDFS of three datanodes, each of which a test may kill and bring back.

use std::path::Path;
use std::time::Duration;

use crate::hdfs::{OwnHdfs, said};
use crate::wait_until;

const PATIENCE: Duration = Duration::from_secs(60);

/// The datanodes' names.
pub const DATANODES: [&str; 3] = ["datanode", "datanode2", "datanode3"];

/// Three datanodes and their namenode, which takes a silent one for dead after 15 s.
#[derive(Debug)]
pub struct Hdfs(OwnHdfs);

/// A file's copies, as the namenode counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    pub path: String,
    /// As the writer asked for.
    pub wanted: u32,
    /// Of the block that has fewest.
    pub live: u32,
}

impl Hdfs {
    /// `None` where tests with services are left out.
    ///
    /// # Panics
    /// If it can not be started.
    #[must_use]
    pub fn start() -> Option<Self> {
        OwnHdfs::start(&[("DATANODES", &DATANODES.len().to_string())]).map(Self)
    }

    /// `hdfs://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// SIGKILL; returns once it is gone.
    pub fn kill(&self, datanode: &str) {
        said(self.0.command("kill").arg(datanode));
    }

    /// Starts it with its data; returns once it has registered, if the others run.
    pub fn restart(&self, datanode: &str) {
        said(self.0.command("start").arg(datanode));
    }

    /// The datanodes that are just writing a block of which they have `at_least_bytes`.
    ///
    /// # Panics
    /// If none is within a minute.
    #[must_use]
    pub fn writing(&self, at_least_bytes: u64) -> Vec<&'static str> {
        let writes = |datanode: &&str| {
            let data = self.0.directory().join("hdfs").join(datanode.replace("datanode", "data"));
            half_written(&data).is_some_and(|bytes| bytes >= at_least_bytes)
        };
        wait_until(PATIENCE, "a block that is half written", || {
            Some(DATANODES.into_iter().filter(writes).collect::<Vec<_>>()).filter(|writing| !writing.is_empty())
        })
    }

    /// The files below a directory.
    ///
    /// # Panics
    /// If the namenode does not say.
    #[must_use]
    pub fn copies(&self, below: &str) -> Vec<Copies> {
        let said = self.0.command("cli").args(["fsck", below, "-files", "-blocks"]).output();
        let said = said.expect("the script runs");
        // It fails where copies are missing, and says so.
        parse(&String::from_utf8_lossy(&said.stdout))
    }
}

/// `/a/file 123 bytes, replicated: replication=2, 1 block(s):  OK`, and a line with `Live_repl=2` for each block.
fn parse(said: &str) -> Vec<Copies> {
    let number = |line: &str, name: &str| {
        let digits = line.split_once(name)?.1;
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    let mut found: Vec<Copies> = Vec::new();
    for line in said.lines() {
        if let (Some(wanted), Some((path, _))) = (number(line, "replication="), line.split_once(' ')) {
            found.push(Copies { path: path.to_owned(), wanted, live: u32::MAX });
        } else if let (Some(live), Some(file)) = (number(line, "Live_repl="), found.last_mut()) {
            file.live = file.live.min(live);
        }
    }
    found
}

/// The size of the largest block that a datanode has not finished.
fn half_written(data: &Path) -> Option<u64> {
    let pools = std::fs::read_dir(data.join("current")).ok()?.flatten();
    let blocks = pools.filter_map(|pool| std::fs::read_dir(pool.path().join("current/rbw")).ok()).flatten().flatten();
    let blocks = blocks.filter(|block| !block.file_name().to_string_lossy().ends_with(".meta"));
    blocks.filter_map(|block| Some(block.metadata().ok()?.len())).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read_from_what_fsck_says() {
        let said = "/a/one 9 bytes, replicated: replication=3, 2 block(s):  OK\n\
                    0. BP-1:blk_1 len=4 Live_repl=3\n1. BP-1:blk_2 len=5 Live_repl=2\n\n/a <dir>\n";
        assert_eq!(parse(said), [Copies { path: "/a/one".to_owned(), wanted: 3, live: 2 }]);
    }
}
