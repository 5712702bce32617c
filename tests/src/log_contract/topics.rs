//! Topics are what their specifications say.

use common::stream::{Cleanup, LogError, Outgoing, TopicPartition};

use super::Scene;
use super::scene::{fold, membership};

const KEEP: Cleanup = Cleanup::Delete { retention_ms: None };

pub fn are_created_once_and_verified(scene: &Scene) {
    let week = Cleanup::Delete { retention_ms: Some(7 * 86_400_000) };
    let specs = [scene.spec("kept", 3, KEEP), scene.spec("week", 2, week), scene.spec("state", 3, Cleanup::Compact)];
    assert_eq!(scene.log().partitions(&specs[0].name).expect("an answer"), None);
    scene.log().ensure_topics(&specs[..1]).expect("one is created");
    scene.produce(&specs[0].name, 2, ["value"]);
    for _ in 0..2 {
        scene.log().ensure_topics(&specs).expect("missing ones are created, the others verified");
        for spec in &specs {
            assert_eq!(scene.log().partitions(&spec.name).expect("an answer"), Some(spec.partitions));
        }
    }
    assert_eq!(scene.read(&specs[0].name, 2).len(), 1, "verifying has changed a topic");
}

pub fn that_differ_are_refused(scene: &Scene) {
    let there = [scene.spec("plain", 2, KEEP), scene.spec("state", 2, Cleanup::Compact)];
    scene.log().ensure_topics(&there).expect("created");
    let refused = [
        (scene.spec("plain", 3, KEEP), ["2", "3"]),
        (scene.spec("plain", 2, Cleanup::Compact), ["delete", "compact"]),
        (scene.spec("state", 2, KEEP), ["compact", "delete"]),
    ];
    for (spec, both) in refused {
        let error = scene.log().ensure_topics(std::slice::from_ref(&spec)).expect_err("it differs");
        let text = error.to_string();
        assert!(matches!(error, LogError::Fatal(_)), "trying again cannot help: {text}");
        let named = both.iter().all(|one| text.to_lowercase().contains(one));
        assert!(named && text.contains(&spec.name), "the error must name the topic and {both:?}: {text}");
    }
    scene.log().ensure_topics(&there).expect("nothing was changed");
}

pub fn that_do_not_exist_are_told_apart(scene: &Scene) {
    let missing = scene.name("missing");
    assert_eq!(scene.log().partitions(&missing).expect("an answer"), None);
    assert!(scene.log().ends(&TopicPartition::new(&missing, 0)).is_err());
    // Asking has not created it.
    assert_eq!(scene.log().partitions(&missing).expect("an answer"), None);
    let topic = scene.topic("there", 2);
    assert!(scene.log().ends(&TopicPartition::new(&topic, 2)).is_err(), "there is no partition 2");
}

pub fn a_compacted_one_folds_to_the_last_value_of_each_key(scene: &Scene) {
    const KEYS: usize = 40;
    let topic = scene.changelog("state", 2);
    let mut member = scene.join_as(&membership(&scene.name("group"), &[]));
    for round in 0..50 {
        for key in 0..KEYS {
            member.send(&topic, 1, &format!("key-{key}"), &format!("{key} in round {round}"));
        }
        // Every tenth key is deleted in the last round, and one of them comes back.
        if round == 49 {
            for key in (0..KEYS).step_by(10) {
                let key = format!("key-{key}");
                let key = Some(key.as_bytes());
                let delete = Outgoing { topic: &topic, partition: Some(1), key, value: None, headers: &[] };
                member.member.send(&delete).expect("sent");
            }
            member.send(&topic, 1, "key-20", "back again");
        }
        member.commit(&[]);
    }
    let at = TopicPartition::new(&topic, 1);
    super::scene::eventually("the last commit", || {
        let ends = scene.log().ends(&at).expect("ends");
        (ends.stable >= ends.high).then_some(())
    });
    let state = fold(&scene.read(&topic, 1));
    assert_eq!(state.len(), KEYS - 3);
    for (key, value) in state {
        let number = key.trim_start_matches("key-");
        let expected = if number == "20" { "back again".to_owned() } else { format!("{number} in round 49") };
        assert_eq!(value, expected, "{key}");
    }
    assert!(scene.read(&topic, 0).is_empty());
}
