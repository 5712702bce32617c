//! A service can be taken away and brought back, with its address and its data.

use std::net::TcpStream;

use tests::services::{self, Blow, Outage, Victim};

fn answers(address: &str) -> bool {
    TcpStream::connect(address).is_ok()
}

#[test]
fn a_killed_namenode_comes_back_at_its_address() {
    let Some(hdfs) = services::hdfs() else { return };
    let address = hdfs.trim_start_matches("hdfs://");
    assert!(answers(address), "{address}");
    let outage = Outage::begin(Victim::Namenode, Blow::Kill);
    assert!(!answers(address), "{address} is still there");
    outage.end();
    assert!(answers(address), "{address} has not come back");
}

#[test]
fn a_stopped_broker_comes_back_even_if_the_test_fails() {
    let Some(kafka) = services::kafka() else { return };
    let failed = std::panic::catch_unwind(|| {
        let _outage = Outage::begin(Victim::Kafka, Blow::Stop);
        assert!(answers(&kafka), "gone, as it should be");
    });
    assert!(failed.is_err(), "{kafka} was still there");
    assert!(answers(&kafka), "{kafka} has not come back");
}
