//! Where a worker answers health checks and metrics.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

/// `[http]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    pub listen: Listen,
}

/// Address of `/health/live`, `/health/ready` and `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Listen {
    /// Every address, at the worker's own port.
    #[default]
    Default,
    /// `off`: nowhere.
    Off,
    /// `0.0.0.0:9101`, `[::]:9101`.
    At(SocketAddr),
}

impl TryFrom<String> for Listen {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "default" => Ok(Self::Default),
            "off" => Ok(Self::Off),
            address => {
                address.parse().map(Self::At).map_err(|_| "allowed: default, off, or IP:PORT such as 0.0.0.0:9101")
            }
        }
    }
}

impl HttpSettings {
    /// Where to listen, if anywhere; `port` is the worker's own (ingest 9101, aggregator 9102).
    #[must_use]
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        match self.listen {
            Listen::Default => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
            Listen::Off => None,
            Listen::At(address) => Some(address),
        }
    }
}
