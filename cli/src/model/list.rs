//! `traffic model list`.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use predictor::registry::{Current, Found, Metadata, Promotion, Registry, State};
use serde_json::{Value, json};

use super::{count, number, time};

/// All versions, what they were measured to be worth, and which one is current
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model list
  traffic model list --all                 with numbers that were given up before anything was published
  traffic model list --json | jq '.versions[] | {version, mae: [.metadata.metrics[].mae_kmh]}'

MAE is the mean absolute error in km/h on the held-out days, so many minutes ahead. Models' bytes are not read:
`traffic model show` does.")]
pub struct ListArgs {
    /// Abandoned numbers too
    #[arg(long)]
    all: bool,
}

/// More horizons make no table.
const MOST_HORIZONS: usize = 6;

pub async fn run(args: &ListArgs, registry: &Registry, as_json: bool) -> Result<()> {
    let listing = registry.list().await?;
    // A list is of use when what is current cannot be told, too.
    let current = registry.current().await;
    let known = current.as_ref().ok().copied().flatten();
    let newest = match known {
        Some(current) => registry.promotions().await?.into_iter().find(|p| p.number == current.promotion),
        None => None,
    };
    if as_json {
        let versions: Vec<Value> = listing.versions.iter().map(object).collect();
        println!("{}", json!({ "current": newest, "versions": versions, "foreign": listing.foreign }));
    } else {
        let shown: Vec<&Found> =
            listing.versions.iter().filter(|found| args.all || found.state != State::Abandoned).collect();
        print(&shown, known);
        said_of(newest.as_ref());
        for found in &listing.versions {
            if let State::Damaged(error) = &found.state {
                println!("problem: {error}");
            }
        }
        listing.foreign.iter().for_each(|path| println!("not the registry's: {path}"));
    }
    current?;
    Ok(())
}

fn object(found: &Found) -> Value {
    let version = found.version;
    match &found.state {
        State::Published(metadata) => json!({ "version": version, "state": "published", "metadata": metadata }),
        State::Damaged(error) => json!({ "version": version, "state": "damaged", "problem": error.to_string() }),
        State::Unfinished => json!({ "version": version, "state": "unfinished" }),
        State::Abandoned => json!({ "version": version, "state": "abandoned" }),
    }
}

fn print(versions: &[&Found], current: Option<Current>) {
    let published = versions.iter().filter_map(|found| match &found.state {
        State::Published(metadata) => Some(metadata),
        _ => None,
    });
    let horizons: BTreeSet<u32> =
        published.flat_map(|metadata| &metadata.description.metrics).map(|score| score.horizon_minutes).collect();
    let horizons: Vec<u32> = horizons.into_iter().take(MOST_HORIZONS).collect();
    let errors: String = horizons.iter().map(|horizon| format!(" {:>7}", format!("MAE {horizon}"))).collect();
    println!("{:<10} {:<20} {:<18} {:>12}{errors} {:>10}  STATE", "VERSION", "CREATED", "TYPE", "ROWS", "SIZE");
    for found in versions {
        let state = state(found, current);
        let version = found.version;
        if let State::Published(metadata) = &found.state {
            println!("{}", format!("{version:<10} {}  {state}", row(metadata, &horizons)).trim_end());
        } else {
            let empty = 20 + 1 + 18 + 1 + 12 + 8 * horizons.len() + 1 + 10;
            println!("{version:<10} {:<empty$}  {state}", "-");
        }
    }
}

fn row(metadata: &Metadata, horizons: &[u32]) -> String {
    let about = &metadata.description;
    let errors: String = horizons
        .iter()
        .map(|horizon| about.metrics.iter().find(|score| score.horizon_minutes == *horizon).map(|score| score.mae_kmh))
        .map(|error| format!(" {:>7}", number(error, 3)))
        .collect();
    let (created, rows) = (time(about.created_at), count(about.training_data.rows));
    let size = HumanBytes(metadata.model_size_bytes).to_string();
    format!("{created:<20} {:<18} {rows:>12}{errors} {size:>10}", about.model_type)
}

fn state(found: &Found, current: Option<Current>) -> String {
    let state = match &found.state {
        State::Published(_) => "",
        State::Damaged(_) => "damaged",
        State::Unfinished => "unfinished",
        State::Abandoned => "abandoned",
    };
    let current = match current {
        Some(current) if current.version == found.version && current.pinned => "current, pinned",
        Some(current) if current.version == found.version => "current",
        _ => "",
    };
    [current, state].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
}

fn said_of(newest: Option<&Promotion>) {
    let Some(promotion) = newest else {
        println!("no version is current; `traffic model promote VERSION` makes one so");
        return;
    };
    println!("{}", super::show::line(promotion));
}
