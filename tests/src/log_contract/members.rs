//! Members are assigned partitions, read them, and know when they are at the end.

use std::collections::BTreeSet;

use common::stream::TopicPartition;
use common::stream::log::END_CONFIRMATION;

use super::scene::{Deadline, Scene, eventually, next_offsets, now, text};

pub fn are_assigned_the_same_partitions_of_all_inputs(scene: &Scene) {
    let (one, other) = (scene.topic("one", 2), scene.topic("other", 2));
    scene.produce(&one, 1, ["one"]);
    scene.produce(&other, 1, ["other"]);
    let mut member = scene.join(&scene.name("group"), &[&one, &other]);
    let assigned = member.assigned();
    let expected: BTreeSet<_> =
        [&one, &other].iter().flat_map(|topic| (0..2).map(|number| TopicPartition::new(*topic, number))).collect();
    assert_eq!(assigned.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(assigned.len(), 4, "each once: {assigned:?}");
    let starts: Vec<_> = assigned.into_iter().map(|at| (at, None)).collect();
    member.start(&starts);
    let mut seen: Vec<_> = member.read_to_end().into_iter().map(|seen| (seen.at, text(&seen.record))).collect();
    seen.sort();
    let expected = [(&one, "one"), (&other, "other")];
    let expected = expected.map(|(topic, value)| (TopicPartition::new(topic, 1), value.to_owned()));
    assert_eq!(seen, expected, "records name their input");
}

pub fn read_nothing_before_they_start(scene: &Scene) {
    let topic = scene.topic("in", 1);
    scene.produce(&topic, 0, ["a"]);
    let mut member = scene.join(&scene.name("group"), &[&topic]);
    let assigned = member.assigned();
    for _ in 0..5 {
        let (seen, end) = member.poll();
        assert!(seen.is_empty() && end.is_none(), "{seen:?} {end:?}");
    }
    member.start(&[(assigned[0].clone(), None)]);
    assert_eq!(member.read_to_end().len(), 1);
}

pub fn start_at_the_offsets_given(scene: &Scene) {
    let topic = scene.topic("in", 3);
    for partition in 0..3 {
        scene.produce(&topic, partition, (0..10).map(|n| n.to_string()));
    }
    let mut member = scene.join(&scene.name("group"), &[&topic]);
    member.assigned();
    let at = |number| TopicPartition::new(&topic, number);
    member.start(&[(at(0), Some(4)), (at(1), None), (at(2), Some(10))]);
    let seen = member.read_to_end();
    for (number, from) in [(0, 4), (1, 0), (2, 10)] {
        let offsets = seen.iter().filter(|seen| seen.at == at(number)).map(|seen| seen.record.offset);
        assert!((from..10).eq(offsets), "partition {number}");
    }
}

pub fn meet_the_end_again_after_new_records(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    assert!(member.read_to_end().is_empty(), "an empty partition has an end too");
    for round in 1..4 {
        scene.produce(&topic, 0, (0..round * 10).map(|n| n.to_string()));
        // The end is not reported before the records that a producer knows to be there.
        let seen = member.read(1);
        let rest = member.read_to_end();
        assert_eq!(seen.len() + rest.len(), round * 10);
    }
}

pub fn hear_the_end_confirmed_while_it_stands(scene: &Scene) {
    let topic = scene.topic("in", 1);
    scene.produce(&topic, 0, ["a"]);
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    assert_eq!(member.read_to_end().len(), 1);
    for _ in 0..2 {
        let begun = now();
        assert!(member.read_to_end().is_empty());
        assert!(now() - begun < END_CONFIRMATION * 3 / 2, "the end was not confirmed for {:?}", now() - begun);
    }
}

pub fn a_loop_to_the_end_terminates_with_all_done(scene: &Scene) {
    let (input, output) = (scene.topic("in", 3), scene.topic("out", 3));
    let group = scene.name("group");
    for partition in 0..3 {
        scene.produce(&input, partition, (0..100).map(|n| n.to_string()));
    }
    let mut member = scene.join(&group, &[&input]).started();
    let (mut ended, deadline) = (BTreeSet::new(), Deadline::new());
    while ended.len() < 3 {
        let (seen, end) = member.poll();
        for seen in &seen {
            member.send(&output, seen.at.partition, "key", &text(&seen.record));
            ended.remove(&seen.at.partition);
        }
        if !seen.is_empty() {
            member.commit(&next_offsets(&seen));
        }
        ended.extend(end.map(|at| at.partition));
        deadline.hold("the end");
    }
    drop(member);
    for partition in 0..3 {
        let values = scene.values(&output, partition, 100);
        assert!((0..100).map(|n| n.to_string()).eq(values), "partition {partition}");
        assert_eq!(scene.committed(&group, &TopicPartition::new(&input, partition)), Some(100));
    }
}

pub fn read_nothing_of_a_paused_partition(scene: &Scene) {
    let topic = scene.topic("in", 2);
    let at = |number| TopicPartition::new(&topic, number);
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    assert!(member.read_to_end().is_empty());
    member.member.pause(&[at(0)]).expect("paused");
    for round in 0..3 {
        scene.produce(&topic, 0, [format!("paused {round}")]);
        scene.produce(&topic, 1, [format!("open {round}")]);
        let seen = member.read(1);
        assert_eq!(seen.len(), 1);
        assert_eq!((&seen[0].at, text(&seen[0].record)), (&at(1), format!("open {round}")));
    }
    for _ in 0..5 {
        let (seen, end) = member.poll();
        assert!(seen.is_empty(), "{seen:?}");
        assert_ne!(end, Some(at(0)), "a paused partition is not at its end");
    }
    member.member.resume(&[at(0)]).expect("resumed");
    let seen: Vec<String> = member.read(3).iter().map(|seen| text(&seen.record)).collect();
    assert_eq!(seen, ["paused 0", "paused 1", "paused 2"]);
}

pub fn see_their_own_writes_to_their_input(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let at = TopicPartition::new(&topic, 0);
    scene.produce(&topic, 0, ["5"]);
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    let mut values = Vec::new();
    // Each number sends the one below it back to the input.
    eventually("the countdown", || {
        let (seen, _) = member.poll();
        for seen in &seen {
            let number: u32 = text(&seen.record).parse().expect("a number");
            values.push(number);
            if number > 0 {
                member.send(&topic, 0, "key", &(number - 1).to_string());
            }
        }
        if !seen.is_empty() {
            member.commit(&next_offsets(&seen));
        }
        (values.last() == Some(&0)).then_some(())
    });
    assert_eq!(values, [5, 4, 3, 2, 1, 0]);
    assert!(member.read_to_end().is_empty());
    let committed = scene.committed(&scene.name("group"), &at);
    assert!(committed.is_some_and(|next| next >= 6), "{committed:?}");
}
