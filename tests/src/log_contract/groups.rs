//! Groups keep their offsets.

use common::stream::{Membership, TopicPartition};

use super::scene::{Scene, membership, next_offsets, text};

pub fn without_offsets_have_none(scene: &Scene) {
    let topic = scene.topic("in", 2);
    scene.produce(&topic, 0, ["a"]);
    let at: Vec<_> = (0..2).map(|partition| TopicPartition::new(&topic, partition)).collect();
    for at in &at {
        assert_eq!(scene.committed(&scene.name("nobody"), at), None);
    }
    // One partition's offset is not another's.
    let mut member = scene.join(&scene.name("group"), &[&topic]).started();
    assert_eq!(member.read_to_end().len(), 1);
    member.commit(&[(at[0].clone(), 1)]);
    assert_eq!(scene.committed(&scene.name("group"), &at[0]), Some(1));
    assert_eq!(scene.committed(&scene.name("group"), &at[1]), None);
}

pub fn are_independent(scene: &Scene) {
    let topic = scene.topic("in", 1);
    let at = TopicPartition::new(&topic, 0);
    scene.produce(&topic, 0, ["a", "b", "c"]);
    let mut one = scene.join(&scene.name("one"), &[&topic]).started();
    let mut other = scene.join(&scene.name("other"), &[&topic]).started();
    assert_eq!(one.read_to_end().len(), 3);
    one.commit(&[(at.clone(), 3)]);
    assert_eq!(scene.committed(&scene.name("one"), &at), Some(3));
    assert_eq!(scene.committed(&scene.name("other"), &at), None);
    assert_eq!(other.read_to_end().len(), 3, "each group reads everything");
    other.commit(&[(at.clone(), 1)]);
    assert_eq!(scene.committed(&scene.name("other"), &at), Some(1));
    assert_eq!(scene.committed(&scene.name("one"), &at), Some(3));
}

/// Reads on in several sessions, each of which commits a part of what it reads.
fn resume(scene: &Scene, membership: &Membership, at: &TopicPartition) {
    let mut expected = 0;
    for session in 0..4_i64 {
        let mut member = scene.join_as(membership).started();
        let seen = member.read_to_end();
        assert_eq!(text(&seen[0].record), expected.to_string(), "session {session}");
        assert_eq!(seen.len() as i64, 20 - expected);
        member.commit(&next_offsets(&seen[..5]));
        expected += 5;
        assert_eq!(scene.committed(&membership.application_id, at), Some(seen[4].record.offset + 1));
    }
}

pub fn resume_where_they_committed(scene: &Scene) {
    let topic = scene.topic("in", 1);
    scene.produce(&topic, 0, (0..20).map(|n| n.to_string()));
    resume(scene, &membership(&scene.name("group"), &[&topic]), &TopicPartition::new(&topic, 0));
}

pub fn without_transactions_commit_offsets_only(scene: &Scene) {
    let topic = scene.topic("in", 1);
    scene.produce(&topic, 0, (0..20).map(|n| n.to_string()));
    let membership = Membership { transactional: false, ..membership(&scene.name("sink"), &[&topic]) };
    resume(scene, &membership, &TopicPartition::new(&topic, 0));
}
