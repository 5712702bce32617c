-- Aggregates, forecasts and how good they were, and how far each topic has become rows.
-- Times are INTEGER, epoch milliseconds, as in the messages; days are TEXT, YYYY-MM-DD.

create table projection_offsets (
    projection  text    not null,
    topic       text    not null,
    partition   integer not null,
    next_offset integer not null check (next_offset >= 0),
    primary key (projection, topic, partition)
) strict, without rowid;

create table segments (
    segment_id text    not null primary key,
    latitude   real,
    longitude  real,
    first_seen integer not null,
    last_seen  integer not null
) strict, without rowid;

create table aggregates (
    segment_id       text    not null,
    window_start     integer not null,
    window_end       integer not null,
    avg_speed        real,
    speed_stddev     real,
    speed_min        real,
    speed_max        real,
    vehicle_count    integer not null,
    occupancy_avg    real    not null,
    occupancy_max    real,
    congestion_level text,
    latitude         real,
    longitude        real,
    event_count      integer not null,
    quality_score    real    not null,
    primary key (segment_id, window_start)
) strict, without rowid;
create index aggregates_window_start on aggregates (window_start);

create table predictions (
    segment_id                 text    not null,
    prediction_timestamp       integer not null,
    horizon_minutes            integer not null,
    target_timestamp           integer not null,
    predicted_speed            real    not null,
    current_speed              real    not null,
    predicted_congestion_level text    not null,
    speed_lower                real    not null,
    speed_upper                real    not null,
    speed_quantiles            text    not null,
    confidence_score           real    not null,
    model_type                 text    not null,
    model_version              text    not null,
    features_used              text    not null,
    latitude                   real,
    longitude                  real,
    avg_speed_1h               real,
    avg_speed_24h              real,
    avg_speed_7d               real,
    actual_speed               real,
    prediction_error           real,
    primary key (segment_id, prediction_timestamp, horizon_minutes)
) strict;
create index predictions_target on predictions (segment_id, target_timestamp);
create index predictions_timestamp on predictions (prediction_timestamp);

-- Sums of whole metres per hour (0.001 km/h) add up to the same in every order.
create table model_metrics (
    day                                    text    not null,
    horizon_minutes                        integer not null,
    model_version                          text    not null,
    model_type                             text    not null,
    n                                      integer not null,
    sum_absolute_error_m_per_h             integer not null,
    sum_squared_error_m2_per_h2            integer not null,
    sum_absolute_persistence_error_m_per_h integer not null,
    primary key (day, horizon_minutes, model_version, model_type)
) strict, without rowid;

create view model_accuracy as
select day, horizon_minutes, model_version, model_type, n,
    sum_absolute_error_m_per_h / 1000.0 / n as mean_absolute_error_kmh,
    sum_squared_error_m2_per_h2 / 1000000.0 / n as mean_squared_error_km2_per_h2,
    sum_absolute_persistence_error_m_per_h / 1000.0 / n as mean_absolute_persistence_error_kmh
from model_metrics where n > 0;
