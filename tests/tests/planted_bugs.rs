//! A simulator that finds nothing may be blind: known bugs are planted, and each has to be found.

use tests::simulator::planted::Bug;
use tests::simulator::{History, Play, REPLAYS, hunt};

/// In as many histories each bug has to show.
const SEEDS: u64 = 200;

#[test]
fn every_planted_bug_is_found_and_explained() {
    for bug in Bug::ALL {
        let history: &History<'_> = &|play| bug.play(play);
        let report = (0..SEEDS).find_map(|seed| hunt(history, seed).err());
        let report = report.unwrap_or_else(|| panic!("{SEEDS} histories do not show {bug:?}"));
        let (count, sent) = (report.faults.len(), report.events);
        println!("{bug:?}: seed {}, minimal schedule of {count} faults and {sent} sent\n{report}", report.seed);
        assert!(report.replays <= REPLAYS);
        assert!(count <= 12, "{bug:?}: no person sees why in {count} faults:\n{report}");
        assert_eq!(report.lines.iter().filter(|line| line.starts_with('!')).count(), count);
    }
}

#[test]
fn the_minimal_schedule_of_a_planted_bug_fails_again_and_is_right_without_the_bug() {
    let history: &History<'_> = &|play| Bug::OffsetsBeforeOutput.play(play);
    let report = (0..SEEDS).find_map(|seed| hunt(history, seed).err()).expect("the bug is found");
    let allowed = report.faults.iter().map(|fault| fault.id.clone()).collect();
    let allowed = tests::simulator::Allowed::Only(allowed);
    let again = Play { allowed, events: Some(report.events), ..Play::seed(report.seed) };
    let failure = history(&again).expect_err("a minimal schedule is a history that fails");
    assert_eq!((failure.what, failure.lines), (report.minimal_what, report.lines));
    tests::simulator::aggregator(&again).expect("the true machine and log stand it");
}
