//! The database's tables are made and unmade, on empty and on filled ones; what is wrong is said without a password.

use std::net::TcpListener;
use std::time::Duration;

use common::db::{Applied, Database, DbError, Direction, check, migrate, status};
use tests::database::{Bed, Kind, TestDatabase, Traffic, database, days_ago};
use tests::{Worker, wait_until};

const BOTH: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];
const DEADLINE: Duration = Duration::from_secs(60);
const UP: Direction = Direction::Up { to: None };

fn run(rows: &TestDatabase, direction: Direction) -> Result<(), DbError> {
    rows.runtime.block_on(migrate(&rows.database(), direction))
}

fn applied(rows: &TestDatabase) -> Vec<(i64, Applied)> {
    let database = rows.database();
    let status = rows.runtime.block_on(async {
        let mut connection = database.connect().await?;
        status(&database, &mut connection).await
    });
    status.expect("the migrations are listed").into_iter().map(|m| (m.version, m.applied)).collect()
}

/// Names of tables, views, functions and indexes that are not the migrations' own.
fn objects(rows: &TestDatabase) -> Vec<String> {
    rows.rows(match rows.kind {
        Kind::Sqlite => "select name from sqlite_master where name not like '%sqlx%' and name not like 'sqlite_%'",
        Kind::Postgres => {
            "select relname::text from pg_class where relnamespace = 'traffic'::regnamespace and relname !~ 'sqlx'
             union all select proname::text from pg_proc where pronamespace = 'traffic'::regnamespace"
        }
    })
}

#[test]
fn tables_go_down_and_up_again_with_rows_in_them() {
    for bed in BOTH.into_iter().filter_map(|kind| Bed::new(kind, 2)) {
        let mut traffic = Traffic::default();
        traffic.windows(&bed, days_ago(1), 3, 0..20);
        bed.run_to_end(bed.traffic());
        traffic.assert_rows(&bed.rows);
        let before = objects(&bed.rows);
        assert_eq!(applied(&bed.rows), [(1, Applied::Yes), (2, Applied::Yes), (3, Applied::Yes)]);

        run(&bed.rows, Direction::Down { to: 1 }).expect("down to the first");
        assert_eq!(applied(&bed.rows), [(1, Applied::Yes), (2, Applied::No), (3, Applied::No)]);
        traffic.assert_rows(&bed.rows);
        for _ in 0..2 {
            run(&bed.rows, Direction::Down { to: 0 }).expect("down to nothing");
            assert_eq!(objects(&bed.rows), [""; 0]);
        }
        run(&bed.rows, Direction::Up { to: Some(1) }).expect("up by one");
        for _ in 0..2 {
            run(&bed.rows, UP).expect("up");
        }
        let mut after = objects(&bed.rows);
        // Partitions come with their rows.
        bed.run_to_end(bed.traffic());
        assert!(after.len() <= before.len(), "{after:?}");
        after = objects(&bed.rows);
        assert_eq!(after.len(), before.len());
        traffic.assert_rows(&bed.rows);
    }
}

#[test]
fn there_are_only_so_many_versions() {
    let Some(rows) = TestDatabase::new(Kind::Sqlite) else { return };
    for direction in [Direction::Up { to: Some(99) }, Direction::Down { to: -1 }] {
        let error = run(&rows, direction).expect_err("no such version").to_string();
        assert!(error.contains("there is no migration") && error.contains("1 to 3"), "{error}");
    }
}

#[test]
fn many_may_migrate_at_once() {
    for rows in BOTH.into_iter().filter_map(TestDatabase::new) {
        for direction in [UP, Direction::Down { to: 0 }, UP] {
            std::thread::scope(|scope| {
                let runs = [(); 6].map(|()| scope.spawn(|| run(&rows, direction)));
                for one in runs {
                    one.join().expect("it does not panic").expect("it migrates");
                }
            });
        }
        assert_eq!(applied(&rows), [(1, Applied::Yes), (2, Applied::Yes), (3, Applied::Yes)]);
    }
}

#[test]
fn other_peoples_migrations_are_refused() {
    for rows in BOTH.into_iter().filter_map(TestDatabase::new) {
        rows.migrate_up();
        rows.execute("update T._sqlx_migrations set checksum = '\\x00' where version = 2");
        assert_eq!(applied(&rows), [(1, Applied::Yes), (2, Applied::Changed), (3, Applied::Yes)]);
        for direction in [UP, Direction::Down { to: 0 }] {
            let error = run(&rows, direction).expect_err("a stranger").to_string();
            assert!(error.contains("migration 2 (alerts)") && error.contains("its checksum differs"), "{error}");
        }
        let error = checked(&rows.database(), &rows).expect_err("a stranger").to_string();
        assert!(error.contains("its checksum differs"), "{error}");
        assert!(objects(&rows).len() > 10, "nothing was undone");

        rows.execute("delete from T._sqlx_migrations where version > 1");
        rows.execute(
            "insert into T._sqlx_migrations (version, description, success, checksum, execution_time)
             select 7, 'later', success, checksum, 0 from T._sqlx_migrations where version = 1",
        );
        let error = run(&rows, UP).expect_err("a newer one").to_string();
        assert!(error.contains("migration 7") && error.contains("a newer one has applied it"), "{error}");
    }
}

fn checked(database: &Database, rows: &TestDatabase) -> Result<(), DbError> {
    rows.runtime.block_on(async {
        let mut connection = database.connect().await?;
        check(database, &mut connection).await
    })
}

#[test]
fn a_sink_waits_until_the_tables_are_made() {
    let Some(rows) = TestDatabase::new(Kind::Postgres) else { return };
    let bed = Bed::on(rows, 1);
    let mut traffic = Traffic::default();
    traffic.windows(&bed, days_ago(1), 2, 0..5);
    bed.while_running(bed.traffic(), |reports| {
        let why = wait_until(DEADLINE, "it says what is missing", || reports.reason());
        assert!(why.contains("has not been migrated") && why.contains("run `traffic migrate up`"), "{why}");
        bed.rows.migrate_up();
        wait_until(DEADLINE, "all rows", || bed.is_complete(&traffic));
        assert_eq!(reports.reason(), None);
        // Its tables are taken away under its feet.
        run(&bed.rows, Direction::Down { to: 0 }).expect("down");
        traffic.windows(&bed, days_ago(1), 2, 5..6);
        let why = wait_until(DEADLINE, "it says so again", || reports.reason());
        assert!(why.contains("traffic migrate up"), "{why}");
        bed.rows.migrate_up();
        wait_until(DEADLINE, "all rows again", || bed.is_complete(&traffic));
    });
    traffic.assert_rows(&bed.rows);
}

#[test]
fn a_sink_makes_the_tables_of_a_file_itself() {
    let Some(rows) = TestDatabase::new(Kind::Sqlite) else { return };
    let bed = Bed::on(rows, 1);
    let mut traffic = Traffic::default();
    traffic.windows(&bed, days_ago(1), 2, 0..5);
    bed.run_to_end(bed.traffic());
    traffic.assert_rows(&bed.rows);
}

#[test]
fn what_is_wrong_is_said_without_the_password() {
    let Some(rows) = TestDatabase::new(Kind::Postgres) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = listener.local_addr().expect("an address").port();
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let secret = "test-secret";
    assert!(rows.location.contains(secret));
    for (location, expected) in [
        (rows.location.replace(secret, "wr0ng-s3cret"), "password authentication failed"),
        (rows.location.replace(":test-secret", ""), "password"),
        (format!("{}-gone", rows.location), "create it, or check its name"),
        (format!("postgres://u:wr0ng-s3cret@127.0.0.1:{closed}/d"), "refused"),
        (format!("postgres://u:wr0ng-s3cret@127.0.0.1:{silent}/d"), "no answer within 5 s"),
        ("postgres://u:wr0ng-s3cret@no-such-host.invalid/d".to_owned(), "check that it runs and that host and port"),
    ] {
        let database = database(&location);
        for error in [
            checked(&database, &rows).expect_err("it is wrong"),
            rows.runtime.block_on(migrate(&database, UP)).expect_err("it is wrong"),
        ] {
            let text = format!("{error} {error:?} {database} {database:?}");
            assert!(text.contains(expected) && text.contains(&database.to_string()), "{text}");
            assert!(!text.contains("s3cret") && !text.contains(secret), "{text}");
        }
    }
    for location in ["sqlite:/nowhere/rows.db", "sqlite:/proc/rows.db"] {
        let error = checked(&database(location), &rows).expect_err("no such directory").to_string();
        assert!(error.contains("check that its directory exists"), "{error}");
    }
}

#[test]
fn the_operators_command() {
    for rows in BOTH.into_iter().filter_map(TestDatabase::new) {
        let traffic = |arguments: &[&str]| {
            let mut process = Worker::start("traffic", arguments, &[("TRAFFIC_DATABASE", &rows.location)]);
            let status = process.wait(DEADLINE);
            (status.code(), process.output(), process.log())
        };
        let (code, said, _) = traffic(&["migrate", "status"]);
        assert!(code == Some(0) && said.contains("   1  traffic              not applied"), "{said}");
        let (code, said, log) = traffic(&["migrate", "up", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!((code, &json["migrations"][1]["applied"]), (Some(0), &"yes".into()), "{said} {log}");
        assert!(!said.contains("test-secret") && !log.contains("test-secret"), "{said} {log}");
        assert_eq!(traffic(&["migrate", "up"]).0, Some(0));
        // How far down must be said.
        assert_eq!(traffic(&["migrate", "down"]).0, Some(2));
        let (code, said, _) = traffic(&["migrate", "down", "--to", "0"]);
        assert!(code == Some(0) && said.contains("   2  alerts               not applied"), "{said}");
        let (code, _, log) = traffic(&["migrate", "up", "--to", "9"]);
        assert!(code == Some(1) && log.contains("there is no migration 9"), "{log}");
    }
    let mut process = Worker::start("traffic", &["migrate", "up"], &[("TRAFFIC_DATABASE", "none")]);
    assert_eq!(process.wait(DEADLINE).code(), Some(1));
    assert!(process.log().contains("set TRAFFIC_DATABASE"), "{}", process.log());
}
