//! `traffic migrate`: the database's tables, made, unmade and looked at.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use common::db::{self, Applied, Database, Direction, MigrationStatus};
use common::worker::Process;

/// Make the database's tables, or go back to an earlier version of them
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  TRAFFIC_DATABASE=postgres://traffic@db/traffic traffic migrate up
  traffic migrate status --json
  traffic migrate down --to 1        undo everything above version 1
  traffic migrate down --to 0        remove all tables, with their rows

Safe to run again, and at the same time elsewhere. Workers make the tables of an embedded database (sqlite:) by
themselves; with PostgreSQL they wait until `traffic migrate up` was run. Rows that `down` removes come back from
the topics, as far as these reach.")]
pub struct MigrateArgs {
    #[command(subcommand)]
    command: MigrateCommand,
    /// One JSON object
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum MigrateCommand {
    /// Apply what is missing
    Up {
        /// Up to this version [default: all]
        #[arg(long, value_name = "VERSION")]
        to: Option<i64>,
    },
    /// Undo what is above a version, with the rows that need it
    Down {
        /// Down to this version; 0 removes everything
        #[arg(long, value_name = "VERSION")]
        to: i64,
    },
    /// What is applied
    Status,
}

pub fn run(args: &MigrateArgs, process: &Process) -> Result<()> {
    let Some(database) = Database::at(&process.config.database()) else {
        bail!("no database is set: set TRAFFIC_DATABASE, or POSTGRES_HOST and its companions");
    };
    let direction = match args.command {
        MigrateCommand::Up { to } => Some(Direction::Up { to }),
        MigrateCommand::Down { to } => Some(Direction::Down { to }),
        MigrateCommand::Status => None,
    };
    let status = process.runtime().block_on(async {
        if let Some(direction) = direction {
            db::migrate(&database, direction).await?;
        }
        let mut connection = database.connect().await?;
        let status = db::status(&database, &mut connection).await;
        connection.close().await;
        status
    })?;
    if args.json {
        println!("{}", serde_json::json!({ "database": database.to_string(), "migrations": status }));
    } else {
        print(&database, &status);
    }
    Ok(())
}

fn print(database: &Database, status: &[MigrationStatus]) {
    println!("{database}");
    for MigrationStatus { version, name, applied } in status {
        let applied = match applied {
            Applied::Yes => "applied",
            Applied::No => "not applied",
            Applied::Changed => "applied with another text: its checksum differs",
            Applied::Unknown => "applied by a newer program",
        };
        println!("{version:>4}  {name:<20} {applied}");
    }
}
