//! What a Kafka error means for the caller: retry, fenced or fatal, in words that say what to do.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::context::Reports;
use super::fences;
use crate::stream::log::LogError;

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The broker did not answer, or is not who we think.
    Unreachable,
    Retry,
    Fenced,
    /// Another session uses our instance name.
    DuplicateInstance,
    Fatal,
}

pub(super) fn kind(error: &KafkaError) -> Kind {
    match (error, error.rdkafka_error_code()) {
        (KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_), _) => Kind::Fatal,
        (_, Some(code)) => kind_of(code),
        (KafkaError::AdminOp(code), None) => kind_of(*code),
        (_, None) => Kind::Retry,
    }
}

pub(super) fn kind_of(code: Code) -> Kind {
    match code {
        Code::BrokerTransportFailure
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::SSL
        | Code::Authentication
        | Code::SaslAuthenticationFailed => Kind::Unreachable,
        Code::Fenced | Code::InvalidProducerEpoch | Code::ProducerFenced | Code::TransactionCoordinatorFenced => {
            Kind::Fenced
        }
        Code::FencedInstanceId | Code::UnreleasedInstanceId => Kind::DuplicateInstance,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::InconsistentGroupProtocol
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InvalidTransactionTimeout
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::PolicyViolation
        | Code::InvalidArgument
        | Code::MessageSizeTooLarge
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedForMessageFormat
        | Code::UnsupportedSASLMechanism
        | Code::NotImplemented => Kind::Fatal,
        _ => Kind::Retry,
    }
}

/// Turns librdkafka's errors into the port's.
#[derive(Debug, Clone)]
pub(super) struct Explain {
    pub servers: String,
    /// The member that is spoken of; empty if it is none.
    pub member: String,
}

impl Explain {
    /// The same, speaking of a member.
    pub fn of(&self, member: &str) -> Self {
        Self { servers: self.servers.clone(), member: member.to_owned() }
    }

    /// `doing` completes the sentence "Kafka at ..., ...".
    pub fn error(&self, doing: &str, error: &KafkaError, reports: &Reports) -> LogError {
        let servers = &self.servers;
        let complaint = reports.complaint().map(|c| format!(" (the client's last complaint: {c})")).unwrap_or_default();
        match kind(error) {
            Kind::Unreachable => self.unreachable(doing, &error.to_string(), reports),
            Kind::Retry => LogError::Retry(format!("Kafka at {servers}, {doing}: {error}{complaint}")),
            Kind::Fenced => LogError::Fenced(format!(
                "Kafka at {servers}, {doing}: {error}: a newer session of the same name took over"
            )),
            Kind::DuplicateInstance if !self.member.is_empty() && !fences::again(&self.member) => {
                LogError::Retry(format!(
                    "Kafka at {servers}, {doing}: {error}: a session of the same name, perhaps its own last one, has its place"
                ))
            }
            Kind::DuplicateInstance => LogError::Fatal(format!(
                "Kafka at {servers}, {doing}: {error}: another process uses the same instance name; give each its own (setting `instance`)"
            )),
            Kind::Fatal => LogError::Fatal(match error {
                // Without the value, which may be a password.
                KafkaError::ClientConfig(_, text, key, _) => format!("Kafka setting {key}: {text}"),
                _ => format!("Kafka at {servers}, {doing}: {error}{complaint}"),
            }),
        }
    }

    /// The broker did not answer: name everything that looks like this.
    pub fn unreachable(&self, doing: &str, error: &str, reports: &Reports) -> LogError {
        let complaint = reports.complaint().map(|c| format!("; the client's last complaint: {c}")).unwrap_or_default();
        LogError::Retry(format!(
            "Kafka at {}, {doing}: no answer ({error}{complaint}). Check the address and that the broker runs, then \
             security protocol, CA file, user name and password: a wrong password, a missing CA and a plaintext client \
             on a TLS port all look like this",
            self.servers
        ))
    }

    pub fn too_late(&self, doing: &str, limit: Duration, reports: &Reports) -> LogError {
        self.unreachable(doing, &format!("gave up after {} s", limit.as_secs()), reports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(error: &KafkaError) -> LogError {
        Explain { servers: "kafka:9092".to_owned(), member: String::new() }.error(
            "committing",
            error,
            &Reports::default(),
        )
    }

    #[test]
    fn a_duplicate_instance_is_fatal_and_names_the_setting() {
        let error = explain(&KafkaError::MessageConsumption(Code::FencedInstanceId));
        assert!(matches!(&error, LogError::Fatal(text) if text.contains("`instance`")), "{error}");
    }

    #[test]
    fn a_member_that_is_fenced_by_its_own_name_once_tries_again() {
        let explain = Explain { servers: "kafka:9092".to_owned(), member: String::new() };
        let fenced = |member| {
            let error = KafkaError::ConsumerCommit(Code::FencedInstanceId);
            explain.of(member).error("committing", &error, &Reports::default())
        };
        assert!(matches!(fenced("a"), LogError::Retry(_)));
        assert!(matches!(fenced("b"), LogError::Retry(_)), "another member");
        assert!(matches!(fenced("a"), LogError::Fatal(_)), "somebody else goes on using the name");
    }

    #[test]
    fn a_fenced_producer_joins_again_at_once() {
        for code in [Code::Fenced, Code::InvalidProducerEpoch, Code::ProducerFenced] {
            assert!(matches!(explain(&KafkaError::MessageProduction(code)), LogError::Fenced(_)), "{code}");
        }
    }

    #[test]
    fn a_lost_generation_is_retried() {
        for code in [Code::IllegalGeneration, Code::UnknownMemberId, Code::RebalanceInProgress] {
            assert!(matches!(explain(&KafkaError::ConsumerCommit(code)), LogError::Retry(_)), "{code}");
        }
    }

    #[test]
    fn silence_names_what_to_check() {
        let error = explain(&KafkaError::MetadataFetch(Code::BrokerTransportFailure));
        assert!(matches!(&error, LogError::Retry(_)), "{error}");
        for part in ["kafka:9092", "password", "CA", "TLS"] {
            assert!(error.to_string().contains(part), "{part} is missing in: {error}");
        }
    }

    #[test]
    fn a_wrong_setting_is_fatal_and_its_value_secret() {
        let code = rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID;
        let wrong =
            KafkaError::ClientConfig(code, "unknown".to_owned(), "sasl.pasword".to_owned(), "hunter2".to_owned());
        let error = explain(&wrong);
        assert!(matches!(&error, LogError::Fatal(text) if text.contains("sasl.pasword")), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
