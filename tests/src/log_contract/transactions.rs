//! A transaction is all or nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::stream::{LogError, TopicPartition};

use super::scene::{Scene, SecondSession, eventually, fold, membership, next_offsets, retrying, text, to};

/// How many records an observer of a partition's committed ones sees, and where they end.
fn visible(scene: &Scene, topics: &[&str]) -> Vec<usize> {
    topics.iter().map(|topic| scene.read(topic, 0).len()).collect()
}

pub fn commit_outputs_state_and_offsets_together(scene: &Scene) {
    let (input, output, state) = (scene.topic("in", 1), scene.topic("out", 1), scene.changelog("state", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    scene.produce(&input, 0, ["a", "b", "c"]);
    let mut member = scene.join(&group, &[&input]).started();
    let seen = member.read_to_end();
    for seen in &seen {
        member.send(&output, 0, "key", &format!("{} done", text(&seen.record)));
        member.send(&state, 0, "last", &text(&seen.record));
    }
    assert_eq!(visible(scene, &[&output, &state]), [0, 0]);
    assert_eq!(scene.log().committed(&group, std::slice::from_ref(&at)).expect("offsets"), [None]);
    member.commit(&next_offsets(&seen));

    assert_eq!(scene.values(&output, 0, 3), ["a done", "b done", "c done"]);
    assert_eq!(scene.values(&state, 0, 3), ["a", "b", "c"]);
    assert_eq!(scene.committed(&group, &at), Some(3));
}

pub fn state_is_never_behind_the_committed_offset(scene: &Scene) {
    const COMMITS: i64 = 60;
    let (input, state) = (scene.topic("in", 1), scene.changelog("state", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    let changelog = TopicPartition::new(&state, 0);
    scene.produce(&input, 0, (0..COMMITS).map(|n| n.to_string()));
    let mut member = scene.join(&group, &[&input]).started();
    assert_eq!(member.read_to_end().len() as i64, COMMITS);
    let done = AtomicBool::new(false);
    // What a successor would restore at any moment, in the order in which it must.
    let observe = || {
        let committed = scene.committed(&group, &at).unwrap_or(0);
        let high = scene.log().ends(&changelog).expect("ends").high;
        eventually("the changelog to settle", || {
            (scene.log().ends(&changelog).expect("ends").stable >= high).then_some(())
        });
        let restored = fold(&scene.read(&state, 0)).get("next").map_or(0, |next| next.parse().expect("a number"));
        assert!(restored >= committed, "state of offset {restored} behind committed {committed}");
        committed
    };
    thread::scope(|scope| {
        let observer = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::SeqCst) {
                let committed = observe();
                assert!(committed >= seen, "the committed offset went back from {seen} to {committed}");
                seen = committed;
            }
        });
        for next in 1..=COMMITS {
            if observer.is_finished() {
                break;
            }
            member.send(&state, 0, "next", &next.to_string());
            member.commit(&[(at.clone(), next)]);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(observe(), COMMITS);
}

pub fn show_nothing_while_open(scene: &Scene) {
    let output = scene.topic("out", 1);
    let at = TopicPartition::new(&output, 0);
    let mut member = scene.join(&scene.name("group"), &[]);
    member.send(&output, 0, "key", "committed");
    member.commit(&[]);
    assert_eq!(scene.values(&output, 0, 1), ["committed"]);
    let before = eventually("the end to settle", || {
        let ends = scene.log().ends(&at).expect("ends");
        (ends.high == ends.stable).then_some(ends)
    });
    member.send(&output, 0, "key", "open");
    if scene.open_transactions_show() {
        let ends = eventually("the record to arrive", || {
            let ends = scene.log().ends(&at).expect("ends");
            (ends.high > before.high).then_some(ends)
        });
        assert_eq!(ends.stable, before.stable);
    } else {
        assert_eq!(scene.log().ends(&at).expect("ends"), before);
    }
    assert_eq!(scene.values(&output, 0, 1), ["committed"]);
    let mut reader = scene.join(&scene.name("reader"), &[&output]).started();
    assert_eq!(reader.read(1).len(), 1);
    member.commit(&[]);
    assert_eq!(text(&reader.read(1)[0].record), "open");
    assert_eq!(scene.values(&output, 0, 2), ["committed", "open"]);
}

pub fn an_aborted_one_shows_nothing_and_readers_pass_it(scene: &Scene) {
    let (input, output) = (scene.topic("in", 1), scene.topic("out", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    scene.produce(&input, 0, ["a", "b"]);
    let mut member = scene.join(&group, &[&input]).started();
    assert_eq!(member.read_to_end().len(), 2);
    for round in 0..3 {
        for number in 0..10 {
            member.send(&output, 0, "key", &format!("aborted {round} {number}"));
        }
        member.member.abort().expect("aborted");
        member.send(&output, 0, "key", &format!("committed {round}"));
        member.commit(&[]);
    }
    member.send(&output, 0, "key", "aborted at the end");
    member.member.abort().expect("aborted");
    let expected = ["committed 0", "committed 1", "committed 2"];
    assert_eq!(scene.values(&output, 0, 3), expected);
    assert_eq!(scene.committed(&group, &at), None);
    // The end is met though the last records were aborted.
    let mut reader = scene.join(&scene.name("reader"), &[&output]).started();
    let seen: Vec<String> = reader.read_to_end().iter().map(|seen| text(&seen.record)).collect();
    assert_eq!(seen, expected);
}

pub fn empty_ones_do_no_harm(scene: &Scene) {
    let (input, output) = (scene.topic("in", 1), scene.topic("out", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    scene.produce(&input, 0, ["a", "b"]);
    let mut member = scene.join(&group, &[&input]).started();
    member.member.abort().expect("nothing to abort");
    member.commit(&[]);
    assert_eq!(member.read_to_end().len(), 2);
    member.commit(&[(at.clone(), 2)]);
    assert_eq!(scene.committed(&group, &at), Some(2));
    member.member.abort().expect("nothing to abort");
    member.commit(&[]);
    assert_eq!(scene.committed(&group, &at), Some(2));
    assert!(scene.read(&output, 0).is_empty());
}

pub fn of_a_dropped_member_are_gone(scene: &Scene) {
    let (input, output) = (scene.topic("in", 1), scene.topic("out", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    scene.produce(&input, 0, ["a", "b", "c"]);
    let mut member = scene.join(&group, &[&input]).started();
    assert_eq!(member.read_to_end().len(), 3);
    member.send(&output, 0, "key", "a");
    member.commit(&[(at.clone(), 1)]);
    member.send(&output, 0, "key", "b of the first");
    drop(member);

    let mut successor = scene.join(&group, &[&input]).started();
    let seen: Vec<String> = successor.read_to_end().iter().map(|seen| text(&seen.record)).collect();
    assert_eq!(seen, ["b", "c"], "it resumes from the committed offset");
    successor.send(&output, 0, "key", "b");
    successor.commit(&[(at.clone(), 2)]);
    assert_eq!(scene.values(&output, 0, 2), ["a", "b"]);
    assert_eq!(scene.committed(&group, &at), Some(2));
}

pub fn of_a_predecessor_cannot_be_committed_late(scene: &Scene) {
    let (input, output) = (scene.topic("in", 1), scene.topic("out", 1));
    let (group, at) = (scene.name("group"), TopicPartition::new(&input, 0));
    scene.produce(&input, 0, ["a"]);
    let mut first = scene.join(&group, &[&input]).started();
    assert_eq!(first.read_to_end().len(), 1);
    first.send(&output, 0, "key", "of the first");
    if scene.second_session() == SecondSession::Refused {
        let error = scene.log().join(&membership(&group, &[&input])).err().expect("the name is in use");
        assert!(matches!(&error, LogError::Fatal(text) if text.contains(&group)), "{error}");
        first.commit(&[(at.clone(), 1)]);
        assert_eq!(scene.values(&output, 0, 1), ["of the first"]);
        return;
    }
    let mut second = scene.join(&group, &[&input]).started();
    let late = first.member.commit(&[(at.clone(), 1)]);
    assert!(late.is_err(), "a predecessor has committed late");
    assert_eq!(second.read_to_end().len(), 1, "nothing of the first was committed");
    second.send(&output, 0, "key", "of the second");
    second.commit(&[(at.clone(), 1)]);
    assert_eq!(scene.values(&output, 0, 1), ["of the second"]);
    assert_eq!(scene.committed(&group, &at), Some(1));
}

pub fn without_inputs(scene: &Scene) {
    let output = scene.topic("out", 2);
    let mut member = scene.join(&scene.name("group"), &[]);
    for partition in 0..2 {
        member.send(&output, partition, "key", &format!("to {partition}"));
    }
    let (seen, end) = member.poll();
    assert!(seen.is_empty() && end.is_none());
    member.commit(&[]);
    for partition in 0..2 {
        assert_eq!(scene.values(&output, partition, 1), [format!("to {partition}")]);
    }
    let plain = membership(&scene.name("plain"), &[]);
    let mut plain = scene.join_as(&common::stream::Membership { transactional: false, ..plain });
    assert!(plain.member.send(&to(&output, 0, b"key", b"value")).is_err(), "it joined without transactions");
    let at = TopicPartition::new(&output, 0);
    assert_eq!(retrying("offsets", || scene.log().committed(&scene.name("plain"), std::slice::from_ref(&at))), [None]);
}
