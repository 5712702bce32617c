//! A real HDFS that asks for Kerberos, in a realm of its own (MIT's KDC, `tests/services/kdc.sh`).

use std::path::{Path, PathBuf};

use crate::hdfs::{OwnHdfs, said};

/// How RPC and blocks are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    Authentication,
    Integrity,
    Privacy,
}

impl Protection {
    /// Hadoop's name of it.
    fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Integrity => "integrity",
            Self::Privacy => "privacy",
        }
    }

    /// What the datanode says of a connection that is so protected.
    fn said(self) -> &'static str {
        match self {
            Self::Authentication => "negotiated QOP = auth\n",
            Self::Integrity => "negotiated QOP = auth-int\n",
            Self::Privacy => "Server using cipher suite AES/CTR/NoPadding",
        }
    }
}

/// A namenode, a datanode and a KDC. `/traffic-data` belongs to the principal `traffic`; `stranger` may read it.
#[derive(Debug)]
pub struct SecureHdfs(OwnHdfs);

impl SecureHdfs {
    /// `None` where tests with services are left out.
    ///
    /// # Panics
    /// If it can not be started.
    #[must_use]
    pub fn start() -> Option<Self> {
        let hdfs = OwnHdfs::start(&[("KERBEROS", Protection::Authentication.name())])?;
        for arguments in [["dfs", "-mkdir", "/traffic-data"].as_slice(), &["dfs", "-chown", "traffic", "/traffic-data"]]
        {
            said(hdfs.command("cli").args(arguments));
        }
        Some(Self(hdfs))
    }

    /// `hdfs://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.url()
    }

    /// The folder of `core-site.xml` and `hdfs-site.xml`.
    #[must_use]
    pub fn conf(&self) -> PathBuf {
        self.0.directory().join("hdfs/namenode.conf")
    }

    /// The realm's `krb5.conf`.
    #[must_use]
    pub fn krb5_conf(&self) -> PathBuf {
        self.0.directory().join("kdc/krb5.conf")
    }

    /// The keytab of `traffic`.
    #[must_use]
    pub fn keytab(&self) -> PathBuf {
        self.0.directory().join("kdc/traffic.keytab")
    }

    /// Gets a ticket from a principal's keytab into a file.
    pub fn ticket(&self, principal: &str, cache: &Path) {
        said(self.0.command_of("kdc.sh", "ticket").arg(principal).arg(cache));
    }

    /// Starts it again, protected in another way.
    pub fn protect(&self, protection: Protection) {
        said(&mut self.0.command("stop"));
        said(self.0.command("protect").arg(protection.name()));
        said(&mut self.0.command("start"));
    }

    /// Whether the datanode has had a connection that was protected so.
    ///
    /// # Panics
    /// If it has no log.
    #[must_use]
    pub fn has_had(&self, protection: Protection) -> bool {
        let log = std::fs::read_to_string(self.0.directory().join("hdfs/logs/datanode.log")).expect("it logs");
        log.contains(protection.said())
    }

    /// SIGKILL for the namenode, and a new one: every connection to it is gone.
    pub fn restart_namenode(&self) {
        said(self.0.command("kill").arg("namenode"));
        said(self.0.command("start").arg("namenode"));
    }
}
