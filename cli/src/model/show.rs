//! `traffic model show`.

use anyhow::Result;
use clap::Args;
use indicatif::HumanBytes;
use predictor::registry::{
    Data, Description, HISTORICAL_AVERAGE, Kind, LAST_VALUE, LINEAR, Metadata, Promotion, Registry, RegistryError,
    Score, Version,
};
use serde_json::json;

use super::{count, number, time};

/// Everything that is known of a version; verifies its model's bytes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model show v1.1.0
  traffic model show v1.1.0 --json | jq .metadata.hyperparameters

HELD is the share of truths within the interval. Exits 1 if the model is missing or damaged.")]
pub struct ShowArgs {
    /// Which, like v1.1.0
    #[arg(id = "model", value_name = "VERSION")]
    version: Version,
}

pub async fn run(args: &ShowArgs, registry: &Registry, as_json: bool) -> Result<()> {
    let metadata = registry.metadata(args.version).await?;
    let sound = registry.load(args.version).await.map(|_| ());
    let promotions = registry.promotions().await?;
    let current = promotions.first().filter(|newest| newest.version == args.version);
    let of_this: Vec<&Promotion> = promotions.iter().filter(|promotion| promotion.version == args.version).collect();
    if as_json {
        let object = json!({
            "metadata": metadata,
            "current": current.is_some(),
            "pinned": current.is_some_and(|promotion| promotion.pinned),
            "promotions": of_this,
            "problem": sound.as_ref().err().map(RegistryError::to_string),
        });
        println!("{object}");
    } else {
        print(&metadata, current);
        of_this.into_iter().for_each(|promotion| println!("{}", line(promotion)));
    }
    sound?;
    Ok(())
}

fn print(metadata: &Metadata, current: Option<&Promotion>) {
    let about = &metadata.description;
    let state = match current {
        Some(promotion) if promotion.pinned => "  current, pinned",
        Some(_) => "  current",
        None => "",
    };
    println!("{} {}{state}", metadata.name, metadata.version);
    let say = |name: &str, text: String| {
        if !text.is_empty() {
            println!("{name:<14} {text}");
        }
    };
    say("type", format!("{}, artifact of format {}", about.model_type, about.model_format));
    say("created", format!("{} by {}, program {}", time(about.created_at), about.created_by, about.code_version));
    say("parent", about.parent_version.map(|version| version.to_string()).unwrap_or_default());
    say("description", about.description.clone());
    say("tags", about.tags.join(", "));
    say("fitted on", data(&about.training_data));
    say("fitted in", format!("{:.1} s", about.fit_seconds));
    say("held out", data(&about.held_out_data));
    say("forecasts", format!("{} min ahead, steps of {} min", minutes(about), about.step_minutes));
    say("features", format!("{}: {}", about.features.len(), about.features.join(" ")));
    let parameters: Vec<String> = about.hyperparameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    say("parameters", parameters.join(" "));
    say("model", format!("{}, {}", HumanBytes(metadata.model_size_bytes), metadata.model_hash));
    scores(about);
}

fn data(data: &Data) -> String {
    let (rows, segments) = (count(data.rows), count(data.segments));
    format!("{} to {}, {rows} rows of {segments} segments, {}", time(data.first), time(data.last), data.hash)
}

fn minutes(about: &Description) -> String {
    about.horizons_minutes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A table of the model's scores, with the baselines' errors beside them.
fn scores(about: &Description) {
    let baselines = [(LAST_VALUE, "LAST VALUE"), (HISTORICAL_AVERAGE, "AVERAGE"), (LINEAR, "LINEAR")];
    let heads: String = baselines.iter().map(|(_, head)| format!(" {head:>10}")).collect();
    println!(
        "{:>7} {:>10} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}{heads}",
        "MINUTES", "N", "MAE", "RMSE", "MAPE %", "HELD 80", "WIDTH", "HELD 90", "WIDTH"
    );
    for score in &about.metrics {
        let of = |name: &str| {
            let scores = about.baselines.get(name)?;
            scores.iter().find(|other| other.horizon_minutes == score.horizon_minutes).map(|other| other.mae_kmh)
        };
        let beside: String = baselines.iter().map(|(name, _)| format!(" {:>10}", number(of(name), 3))).collect();
        println!("{}{beside}", row(score));
    }
}

fn row(score: &Score) -> String {
    format!(
        "{:>7} {:>10} {:>7.3} {:>7.3} {:>7} {:>7} {:>7} {:>7} {:>7}",
        score.horizon_minutes,
        count(score.n),
        score.mae_kmh,
        score.rmse_kmh,
        number(score.mape_percent, 2),
        number(score.coverage_80, 3),
        number(score.width_80_kmh, 1),
        number(score.coverage_90, 3),
        number(score.width_90_kmh, 1)
    )
}

/// A promotion in one line.
pub fn line(promotion: &Promotion) -> String {
    let Promotion { number, version, by, at, .. } = promotion;
    let what = match promotion.kind {
        Kind::Manual => "promoted",
        Kind::Automatic => "promoted automatically",
        Kind::Rollback => "gone back to, and pinned,",
        Kind::Unpin => "unpinned",
        Kind::Other => "made current",
    };
    let reason = if promotion.reason.is_empty() { String::new() } else { format!(": {}", promotion.reason) };
    format!("promotion {number}: {version} {what} by {by}, {}{reason}", time(*at))
}
