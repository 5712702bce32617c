//! The predictor's histories: whatever happens, its forecasts are those of one process that nothing happens to.

use common::stream::Machine;
use common::topics::Topics;
use predictor::{APPLICATION, Predictor, Settings, Slot, topology};

use super::chance::Chance;
use super::invariants;
use super::script::{AHEAD_MS, PLAYED_AT_MS, Script, aggregate, compare, marker, record, shorten, topic};
use super::world::{Kind, Scenario, Sent, World, read};
use super::{Ending, Play};

pub fn settings() -> Settings {
    Settings { horizons: vec![5, 15, 30], ..Settings::default() }
}

/// Plays the history; the undisturbed one is always the true machine's.
pub fn play<M: Machine + 'static>(play: &Play, machine: &dyn Fn() -> M, ending: &mut Ending) -> Result<(), String> {
    let mut chance = Chance::new(play.seed);
    let partitions = 1 + u32::try_from(chance.below(4)).expect("small");
    let mut records = aggregates(&mut chance, partitions);
    shorten(&mut records, play.events);
    let instances = 1 + chance.index(3);
    let mut world = World::new(play, scenario(play.seed, machine, &records, partitions, instances));
    let played = world.play().and_then(|()| invariants::check(&world));
    ending.take(&world);
    played?;
    let true_machine = || Predictor::new(settings(), Slot::default());
    let mut undisturbed = World::undisturbed(scenario(play.seed, &true_machine, &records, partitions, 1));
    undisturbed.play_undisturbed().map_err(|what| format!("undisturbed: {what}"))?;
    let names = Topics::default();
    for partition in 0..partitions {
        let expected = read(&undisturbed.log, &names.predictions, partition)?;
        let found = read(&world.log, &names.predictions, partition)?;
        compare(&format!("{}-{partition}", names.predictions), &found, &expected)?;
        ending.summary.outputs += found.len();
    }
    // State is not compared: what of it no longer matters is left as the last commits found it. What matters shows in
    // the forecasts that processes make which were restored at the end.
    Ok(())
}

fn scenario<'m, M: Machine + 'static>(
    seed: u64,
    machine: &'m dyn Fn() -> M,
    records: &[Sent],
    partitions: u32,
    instances: usize,
) -> Scenario<'m, Script> {
    let names = Topics::default();
    let topics = vec![
        topic(&names.aggregates, partitions, false),
        topic(&names.predictions, partitions, false),
        topic(&names.digest, 1, true),
        topic(&names.changelog(APPLICATION), partitions, true),
    ];
    let kind = Kind::new(machine, move |instance| topology(&names, APPLICATION, instance));
    let (kinds, feed) = (vec![kind], Script::new(records, seed));
    Scenario { kinds, instances, topics, start_ms: PLAYED_AT_MS, ahead_ms: AHEAD_MS, feed }
}

/// Speeds that rise and fall, with gaps, windows without a speed, corrections, records that are none, markers that
/// pass many windows and, in some histories, a partition without segments.
fn aggregates(chance: &mut Chance, partitions: u32) -> Vec<Sent> {
    let name = Topics::default().aggregates;
    let segments = u32::try_from(2 + chance.below(5)).expect("small");
    let busy = if partitions > 1 && chance.one_in(2) { partitions - 1 } else { partitions };
    let (mut step, mut left) = (0, 16 + chance.below(24));
    let mut records = Vec::new();
    while left > 0 {
        (step, left) = (step + if chance.one_in(60) { 40 } else { 1 }, left - 1);
        for s in 0..segments {
            let (partition, segment) = (s % busy, format!("SEG_{s}"));
            if chance.one_in(9) {
                continue;
            }
            let speed = 40.0 + f64::from(s) + f64::from(u32::try_from(chance.below(400)).expect("small")) / 10.0;
            let measured = (!chance.one_in(15)).then_some(speed);
            records.push(aggregate(&name, partition, &segment, step, measured, 10));
            if step > 2 && chance.one_in(6) {
                records.push(aggregate(&name, partition, &segment, step - 2, Some(speed + 3.0), 11));
            }
            if chance.one_in(100) {
                records.push(record(&name, partition, &segment, b"no JSON".to_vec()));
            }
        }
        let silent = chance.one_in(12);
        for partition in (0..partitions).filter(|_| left == 0 || !silent) {
            if left == 0 || !chance.one_in(10) {
                records.push(marker(&name, partition, step));
            }
        }
    }
    records
}
