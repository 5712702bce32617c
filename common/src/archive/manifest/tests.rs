use super::*;

fn manifest(first: i64, end: i64, batch: &str) -> Manifest {
    Manifest {
        version: VERSION,
        kind: Kind::Batch,
        topic: "t".to_owned(),
        partition: 0,
        first,
        end,
        batch: batch.to_owned(),
        created_ms: 0,
        files: vec![DataFile { temporary: "/tmp".to_owned(), path: "/p".to_owned(), size_bytes: 9, rows: 2 }],
    }
}

fn checkpoint(end: i64) -> Checkpoint {
    Checkpoint { end, ..Chain::empty(&Place { topic: "t".to_owned(), partition: 0 }) }
}

#[test]
fn a_chain_joins_in_any_order_of_listing() {
    let chain = Chain::join(checkpoint(0), vec![manifest(10, 12, "b"), manifest(0, 10, "a")]).expect("joins");
    assert_eq!(chain.end(), 12);
    assert_eq!(chain.sum(), Checkpoint { end: 12, rows: 4, ..checkpoint(0) });
}

#[test]
fn what_lies_below_the_checkpoint_is_no_part_of_the_chain() {
    let manifests = vec![manifest(3, 99, "sleeper"), manifest(10, 12, "b")];
    let chain = Chain::join(checkpoint(10), manifests).expect("joins");
    assert_eq!((chain.manifests.len(), chain.end()), (1, 12));
    assert_eq!(Chain::join(checkpoint(10), vec![manifest(3, 99, "sleeper")]).map(|c| c.end()), Ok(10));
}

#[test]
fn gaps_and_overlaps_break_a_chain() {
    let broken = |expected, found| Err(Broken { expected, found });
    let end = |c: Result<Chain, Broken>| c.map(|c| c.end());
    assert_eq!(end(Chain::join(checkpoint(0), vec![manifest(5, 9, "a")])), broken(0, 5));
    assert_eq!(end(Chain::join(checkpoint(0), vec![manifest(0, 9, "a"), manifest(8, 12, "b")])), broken(9, 8));
    assert_eq!(end(Chain::join(checkpoint(0), vec![manifest(0, 9, "a"), manifest(10, 12, "b")])), broken(9, 10));
    assert_eq!(end(Chain::join(checkpoint(0), vec![manifest(0, 0, "a")])), broken(0, 0));
}

#[test]
fn a_gap_is_summed_up_as_one() {
    let gap = Manifest { kind: Kind::Gap, files: Vec::new(), ..manifest(10, 20, "g") };
    let chain = Chain::join(checkpoint(0), vec![manifest(0, 10, "a"), gap]).expect("joins");
    assert_eq!(chain.sum().gaps, [(10, 20)]);
}

#[test]
fn only_what_is_there_decides_who_won() {
    use Creation::{Created, Exists};
    assert_eq!(claim(Some(Created), None, "own"), Claim::Won);
    assert_eq!(claim(Some(Exists), Some("own"), "own"), Claim::Won, "a lost answer, then a second try");
    assert_eq!(claim(None, Some("own"), "own"), Claim::Won);
    assert_eq!(claim(Some(Exists), Some("other"), "own"), Claim::Lost);
    assert_eq!(claim(None, Some("other"), "own"), Claim::Lost);
    assert_eq!(claim(None, None, "own"), Claim::Open, "it may still arrive");
    assert_eq!(claim(Some(Exists), None, "own"), Claim::Open, "removed meanwhile");
}

#[test]
fn a_file_that_is_nowhere_stops_the_archive() {
    assert_eq!(placement(Renaming::Renamed, true), Placement::Done);
    assert_eq!(placement(Renaming::TargetExists, true), Placement::Done);
    assert_eq!(placement(Renaming::SourceMissing, true), Placement::Done);
    assert_eq!(placement(Renaming::SourceMissing, false), Placement::Missing);
}

#[test]
fn reading_goes_on_where_the_archive_ended() {
    let log = |first, high| Ends { first, high, stable: high };
    assert_eq!(start(0, log(0, 0)), Start::At(0));
    assert_eq!(start(5, log(0, 9)), Start::At(5));
    assert_eq!(start(9, log(9, 9)), Start::At(9));
    assert_eq!(start(5, log(7, 9)), Start::AfterGap { first: 5, end: 7 });
    assert_eq!(start(10, log(0, 9)), Start::LogTooShort);
}

#[test]
fn a_batch_goes_only_when_nobody_can_commit_it_any_more() {
    let named = BTreeSet::from(["n"]);
    assert_eq!(leftover(5, "x", &named, 6), Leftover::Remove);
    assert_eq!(leftover(6, "x", &named, 6), Leftover::Keep, "its manifest may still be created");
    assert_eq!(leftover(5, "n", &named, 6), Leftover::Keep);
}

/// Archives live longer than programs.
#[test]
fn a_manifest_looks_as_it_always_did() {
    let text = r#"{
  "version": 1, "kind": "batch", "topic": "traffic-events", "partition": 3, "first": 0, "end": 7,
  "batch": "0123456789abcdef0123456789abcdef", "created_ms": 1790000000000,
  "files": [{"temporary": "/traffic-data/_tmp/x.parquet", "path": "/traffic-data/raw/x.parquet", "size_bytes": 4096, "rows": 6}]
}"#;
    let manifest: Manifest = decode("/m", text.as_bytes()).expect("reads");
    assert_eq!((manifest.first, manifest.end, manifest.files[0].rows), (0, 7, 6));
    let written = serde_json::to_value(&manifest).expect("writes");
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).expect("JSON"));
}

#[test]
fn another_version_and_a_broken_document_are_named() {
    let error = |text: &str| decode::<Manifest>("/m/1.json", text.as_bytes()).expect_err("unreadable").to_string();
    assert!(error(r#"{"version": 2, "new": true}"#).starts_with("/m/1.json: has version 2"));
    assert!(error("{").starts_with("/m/1.json: EOF"));
}
