//! The store and the archive on a real HDFS.

use bytes::Bytes;
use common::store::{Creation, Renaming, Store, StoreError, StoreOptions};
use tests::archive::Archive;
use tests::services;

fn options() -> StoreOptions {
    StoreOptions { replication: Some(1), ..StoreOptions::default() }
}

async fn put(store: &Store, path: &str, content: &'static str) {
    let created = store.create_if_absent(path, Bytes::from_static(content.as_bytes())).await;
    assert_eq!(created, Ok(Creation::Created), "{path}");
}

#[test]
fn hdfs_keeps_the_promises_of_a_store() {
    let Some(url) = services::hdfs() else { return };
    let archive = Archive::new("store", &url, &options(), 1);
    let (store, dir) = (&archive.store, format!("/test/{}", archive.topic));
    let at = |name: &str| format!("{dir}/{name}");
    archive.runtime.block_on(async {
        put(store, &at("a/one"), "1").await;
        put(store, &at("a/two"), "2").await;
        let taken = store.create_if_absent(&at("a/one"), Bytes::from_static(b"other")).await;
        assert_eq!(taken, Ok(Creation::Exists));
        assert_eq!(store.rename(&at("a/one"), &at("a/two")).await, Ok(Renaming::TargetExists));
        assert_eq!(store.rename(&at("a/one"), &at("new/dir/one")).await, Ok(Renaming::Renamed));
        assert_eq!(store.rename(&at("a/one"), &at("new/dir/one")).await, Ok(Renaming::SourceMissing));
        assert_eq!(store.rename(&at("a/one"), &at("elsewhere/one")).await, Ok(Renaming::SourceMissing));
        assert_eq!(store.read(&at("new/dir/one")).await, Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(store.read(&at("nothing")).await, Ok(None));
        assert_eq!(store.size(&at("nothing")).await, Ok(None));
        assert_eq!(store.size(&at("a")).await, Ok(None), "a directory is no file");
        store.replace(&at("a/two"), Bytes::from_static(b"3")).await.expect("replaces");
        assert_eq!(store.read(&at("a/two")).await, Ok(Some(Bytes::from_static(b"3"))));
        let listed = store.list(&dir, true).await.expect("lists");
        let paths: Vec<&str> = listed.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [at("a/two"), at("new/dir/one")]);
        assert_eq!(store.list(&at("nowhere"), true).await, Ok(Vec::new()));
        assert_eq!(store.delete(&at("a/two")).await, Ok(true));
        assert_eq!(store.delete(&at("a/two")).await, Ok(false));
        store.delete_dir(&dir).await.expect("deletes");
        assert_eq!(store.list(&dir, true).await, Ok(Vec::new()));
    });
}

#[test]
fn of_many_creators_on_hdfs_at_once_exactly_one_wins() {
    let Some(url) = services::hdfs() else { return };
    let archive = Archive::new("store", &url, &options(), 1);
    let path = format!("/test/{}/manifest.json", archive.topic);
    archive.runtime.block_on(async {
        let mut attempts = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (store, path) = (archive.store.clone(), path.clone());
            attempts.spawn(async move { (i, store.create_if_absent(&path, Bytes::from(format!("{i}"))).await) });
        }
        let results = attempts.join_all().await;
        let winners: Vec<_> = results.iter().filter(|(_, r)| *r == Ok(Creation::Created)).map(|(i, _)| *i).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(archive.store.read(&path).await, Ok(Some(Bytes::from(format!("{}", winners[0])))));
        assert_eq!(archive.store.sweep(&format!("/test/{}", archive.topic)).await, Ok(0), "losers leave nothing");
    });
}

#[test]
fn a_file_on_hdfs_exists_once_it_is_closed_and_a_dead_writers_is_swept() {
    let Some(url) = services::hdfs() else { return };
    let archive = Archive::new("store", &url, &options(), 1);
    let (store, dir) = (&archive.store, format!("/test/{}", archive.topic));
    let path = format!("{dir}/file");
    // More than one write to the client, and no multiple of anything.
    let content = Bytes::from((0..3_000_001_u32).map(|i| i.to_le_bytes()[1]).collect::<Vec<u8>>());
    archive.runtime.block_on(async {
        let mut dead = store.create(&path).await.expect("begins");
        dead.write(Bytes::from_static(b"half")).await.expect("writes");
        drop(dead);
        assert_eq!(store.read(&path).await, Ok(None));
        assert_eq!(store.list(&dir, false).await, Ok(Vec::new()));

        let mut writer = store.create(&path).await.expect("begins beside the dead one");
        writer.write(content.clone()).await.expect("writes");
        assert_eq!(store.read(&path).await, Ok(None));
        writer.close().await.expect("closes");
        assert_eq!(store.read(&path).await, Ok(Some(content.clone())));
        let range = store.read_range(&path, 1_500_000..1_500_010).await;
        assert_eq!(range, Ok(Some(content.slice(1_500_000..1_500_010))));

        let mut late = store.create(&path).await.expect("begins");
        late.write(Bytes::from_static(b"late")).await.expect("writes");
        assert!(matches!(late.close().await, Err(StoreError::Fatal(_))), "the path is taken");
        let mut abandoned = store.create(&path).await.expect("begins");
        abandoned.write(Bytes::from_static(b"no")).await.expect("writes");
        abandoned.abandon().await;
        assert_eq!(store.sweep(&dir).await, Ok(1), "only the dead writer's file is left");
    });
}

#[test]
fn an_archive_on_hdfs_holds_every_record_once_with_two_owners_at_a_time() {
    let Some(url) = services::hdfs() else { return };
    let mut archive = Archive::new("events", &url, &options(), 3);
    archive.config.checkpoint_manifests = 2;
    archive.config.open_hours = 4;
    archive.produce(0..6_000);
    // Two groups: neither knows of the other, each takes itself for the owner of everything.
    std::thread::scope(|scope| {
        scope.spawn(|| archive.run_to_end("one"));
        scope.spawn(|| archive.run_to_end("two"));
    });
    archive.assert_holds(6_000);
    archive.produce(6_000..9_000);
    assert_eq!(archive.run_to_end("one").rows, 3_000);
    archive.assert_holds(9_000);
}

/// `hdfs-site.xml` names the namenodes of a service; the first of them is away.
#[test]
fn an_ha_service_is_found_by_hdfs_site_and_its_next_namenode_taken() {
    let Some(url) = services::hdfs() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let conf = directory.path().join("conf");
    std::fs::create_dir(&conf).expect("made");
    let property = |name: &str, value: &str| format!("<property><name>{name}</name><value>{value}</value></property>");
    let site = [
        property("dfs.nameservices", "city"),
        property("dfs.ha.namenodes.city", "one,two"),
        property("dfs.namenode.rpc-address.city.one", "127.0.0.1:1"),
        property("dfs.namenode.rpc-address.city.two", url.trim_start_matches("hdfs://")),
    ];
    std::fs::write(conf.join("hdfs-site.xml"), format!("<configuration>{}</configuration>", site.concat()))
        .expect("written");
    std::fs::write(conf.join("core-site.xml"), "<configuration></configuration>").expect("written");
    let prefix = format!("{}.", tests::unique("ha"));
    let conf = conf.display().to_string();
    let environment = [
        ("TRAFFIC_STORE", "hdfs://city"),
        ("HADOOP_CONF_DIR", conf.as_str()),
        ("TRAFFIC_TOPIC_PREFIX", prefix.as_str()),
        ("TRAFFIC_DATABASE", "none"),
        ("TRAFFIC_HTTP_LISTEN", "off"),
    ];
    let run = |binary: &str, arguments: &[&str]| {
        let mut worker = tests::Worker::start_in(directory.path(), binary, arguments, &environment);
        let status = worker.wait(std::time::Duration::from_secs(120));
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    };
    run("traffic", &["init"]);
    run("traffic", &["simulate", "--events", "500", "--segments", "20"]);
    run("ingest", &["--exit-at-end"]);
    let said = run("traffic", &["verify", "archive", "--dataset", "events"]);
    assert!(said.contains("traffic-events"), "{said}");
}
