//! Records come out as they went in.

use std::collections::BTreeMap;

use common::clock::{Clock as _, SystemClock};
use common::stream::partitioner::partition_of;
use common::stream::{Outgoing, StoredRecord, TopicPartition, WATERMARK_HEADER};

use super::Scene;
use super::scene::{eventually, read_to_end, text, to};

/// The partition as its reader and as a member sees it, which must be the same.
fn both_views(scene: &Scene, topic: &str, count: usize) -> Vec<StoredRecord> {
    let mut member = scene.join(&scene.name("group"), &[topic]).started();
    let seen: Vec<StoredRecord> = member.read_to_end().into_iter().map(|seen| seen.record).collect();
    assert_eq!(seen.len(), count);
    assert!(seen.is_sorted_by(|a, b| a.offset < b.offset), "offsets do not increase");
    assert_eq!(scene.read(topic, 0), seen, "a reader and a member see different records");
    seen
}

pub fn keep_their_order_and_content(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let mut producer = scene.log().producer().expect("a producer");
    let headers: [(&str, &[u8]); 3] = [("reason", b"late"), ("empty", b""), ("reason", b"second")];
    for number in 0..300_u32 {
        let (key, value) = (format!("segment-{number}"), vec![b'x'; number as usize]);
        let mut record = to(&topic, 0, key.as_bytes(), &value);
        record.headers = &headers[..number as usize % 4];
        producer.send(&record).expect("sent");
    }
    producer.flush().expect("acknowledged");
    for (number, record) in both_views(scene, &topic, 300).iter().enumerate() {
        assert_eq!(record.key.as_deref(), Some(format!("segment-{number}").as_bytes()));
        assert_eq!(record.value.as_ref().map(Vec::len), Some(number));
        let pairs: Vec<(&str, &[u8])> = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice())).collect();
        assert_eq!(pairs, headers[..number % 4]);
        let reason: Option<&[u8]> = if number % 4 > 0 { Some(b"late") } else { None };
        assert_eq!(record.as_record().header("reason"), reason, "the first of a name counts");
    }
}

pub fn tell_null_from_empty(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let parts: [Option<&[u8]>; 3] = [None, Some(b""), Some(b"x")];
    let pairs: Vec<_> = parts.iter().flat_map(|key| parts.iter().map(move |value| (*key, *value))).collect();
    let mut producer = scene.log().producer().expect("a producer");
    for &(key, value) in &pairs {
        producer.send(&Outgoing { topic: &topic, partition: Some(0), key, value, headers: &[] }).expect("sent");
    }
    producer.flush().expect("acknowledged");
    let records = both_views(scene, &topic, pairs.len());
    let read: Vec<_> = records.iter().map(|record| (record.key.as_deref(), record.value.as_deref())).collect();
    assert_eq!(read, pairs);
}

pub fn are_stamped_with_the_time_of_producing(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let before_ms = SystemClock.now_ms();
    scene.produce(&topic, 0, ["a", "b"]);
    let after_ms = SystemClock.now_ms();
    for record in both_views(scene, &topic, 2) {
        let stamped = record.timestamp_ms;
        assert!((before_ms..=after_ms).contains(&stamped), "{stamped} is not in {before_ms}..={after_ms}");
    }
}

pub fn with_a_key_go_where_java_puts_them(scene: &Scene) {
    const PARTITIONS: u32 = 5;
    let topic = scene.topic("in", PARTITIONS);
    let keys: Vec<String> = (0..50).map(|number| format!("segment-{number}")).collect();
    let by_producer = |key| Outgoing { topic: &topic, partition: None, key, value: Some(b"producer"), headers: &[] };
    let mut producer = scene.log().producer().expect("a producer");
    let mut member = scene.join(&scene.name("group"), &[]);
    for key in &keys {
        producer.send(&by_producer(Some(key.as_bytes()))).expect("sent");
        let record = Outgoing { value: Some(b"member"), ..by_producer(Some(key.as_bytes())) };
        member.member.send(&record).expect("sent");
    }
    producer.flush().expect("acknowledged");
    member.commit(&[]);
    for partition in 0..PARTITIONS {
        let mut expected: Vec<&[u8]> =
            keys.iter().map(String::as_bytes).filter(|key| partition_of(key, PARTITIONS) == partition).collect();
        expected.sort_unstable();
        assert!(!expected.is_empty(), "no key belongs to partition {partition}");
        for sender in ["producer", "member"] {
            let mut found = eventually("all records", || {
                let records = scene.read(&topic, partition);
                let own = records.into_iter().filter(|record| text(record) == sender);
                let found: Vec<Vec<u8>> = own.filter_map(|record| record.key).collect();
                (found.len() >= expected.len()).then_some(found)
            });
            found.sort_unstable();
            assert_eq!(found, expected, "{sender}, partition {partition}");
        }
    }
}

pub fn without_key_or_partition_arrive_somewhere(scene: &Scene) {
    let topic = scene.topic("in", 3);
    let mut producer = scene.log().producer().expect("a producer");
    for number in 0..30_u8 {
        let value = [number];
        let record = Outgoing { topic: &topic, partition: None, key: None, value: Some(&value), headers: &[] };
        producer.send(&record).expect("sent");
    }
    producer.flush().expect("acknowledged");
    let mut found: Vec<u8> = Vec::new();
    for partition in 0..3 {
        found.extend(scene.read(&topic, partition).iter().filter_map(|record| record.value.as_ref()).map(|v| v[0]));
    }
    found.sort_unstable();
    assert!((0..30).eq(found.iter().copied()), "{found:?}");
}

pub fn watermark_markers_come_back_as_such(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let headers: [(&str, &[u8]); 1] = [(WATERMARK_HEADER, b"1700000000000")];
    let marker = Outgoing { topic: &topic, partition: Some(0), key: None, value: None, headers: &headers };
    let mut producer = scene.log().producer().expect("a producer");
    for record in [marker, Outgoing { value: Some(b"{}"), ..marker }, Outgoing { headers: &[], ..marker }] {
        producer.send(&record).expect("sent");
    }
    producer.flush().expect("acknowledged");
    let records = both_views(scene, &topic, 3);
    let watermarks: Vec<_> = records.iter().map(|record| record.as_record().watermark_ms()).collect();
    assert_eq!(watermarks, [Some(1_700_000_000_000), None, None]);
}

pub fn of_a_megabyte_pass(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let large: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    scene.produce(&topic, 0, [&large, &large]);
    let mut member = scene.join(&scene.name("writer"), &[]);
    member.member.send(&to(&topic, 0, b"key", &large)).expect("sent");
    member.commit(&[]);
    eventually("the member's record", || (scene.read(&topic, 0).len() == 3).then_some(()));
    for record in both_views(scene, &topic, 3) {
        assert!(record.value.as_ref() == Some(&large), "the value at {} differs", record.offset);
    }
}

pub fn a_hundred_thousand_pass_in_order(scene: &Scene) {
    const COUNT: usize = 100_000;
    let topic = scene.topic("in", 3);
    let mut producer = scene.log().producer().expect("a producer");
    for number in 0..COUNT {
        let (key, value) = (format!("segment-{}", number % 997), number.to_string());
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        producer.send(&Outgoing { topic: &topic, partition: None, key, value, headers: &[] }).expect("sent");
    }
    producer.flush().expect("acknowledged");
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    let seen = member.read_to_end();
    assert_eq!(seen.len(), COUNT);
    let mut last: BTreeMap<TopicPartition, (i64, usize)> = BTreeMap::new();
    for seen in seen {
        let number: usize = text(&seen.record).parse().expect("a number");
        let before = last.insert(seen.at.clone(), (seen.record.offset, number));
        if let Some((offset, before)) = before {
            assert!(offset < seen.record.offset && before < number, "{} is out of order at {number}", seen.at);
        }
    }
    assert_eq!(last.len(), 3);
}

pub fn are_visible_once_flushed(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let mut producer = scene.log().producer().expect("a producer");
    for round in 1..=20 {
        for _ in 0..10 {
            producer.send(&to(&topic, 0, b"key", b"value")).expect("sent");
        }
        producer.flush().expect("acknowledged");
        // At once, without any patience.
        assert_eq!(scene.read(&topic, 0).len(), round * 10);
        let ends = scene.log().ends(&TopicPartition::new(&topic, 0)).expect("ends");
        assert_eq!((ends.first, ends.high, ends.stable), (0, round as i64 * 10, round as i64 * 10));
    }
}

pub fn a_reader_meets_the_end_and_goes_on_later(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let mut reader = scene.log().read(&TopicPartition::new(&topic, 0), None).expect("a reader");
    assert!(read_to_end(reader.as_mut()).is_empty());
    let mut expected = 0;
    for round in 1..5 {
        scene.produce(&topic, 0, (0..round * 10).map(|n| n.to_string()));
        let mut found = Vec::new();
        eventually("the new records", || {
            found.extend(read_to_end(reader.as_mut()));
            (found.len() >= round * 10).then_some(())
        });
        assert_eq!(found.len(), round * 10);
        for record in found {
            assert_eq!(record.offset, expected);
            expected += 1;
        }
    }
}

pub fn a_reader_begins_where_it_is_told(scene: &Scene) {
    let topic = scene.topic("in", 2);
    scene.produce(&topic, 1, (0..10).map(|n| n.to_string()));
    let at = TopicPartition::new(&topic, 1);
    for (from, count) in [(None, 10), (Some(0), 10), (Some(7), 3), (Some(10), 0)] {
        let mut reader = scene.log().read(&at, from).expect("a reader");
        let records = read_to_end(reader.as_mut());
        assert_eq!(records.len(), count, "from {from:?}");
        assert!(records.first().is_none_or(|first| first.offset == from.unwrap_or(0)));
    }
}
