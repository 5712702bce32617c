-- Aggregates, forecasts and how good they were, and how far each topic has become rows.

-- Messages carry epoch milliseconds.
create function traffic.from_ms(ms bigint) returns timestamptz language sql immutable parallel safe
    as $$ select to_timestamp(ms::double precision / 1000) $$;
create function traffic.to_ms(at timestamptz) returns bigint language sql stable parallel safe
    as $$ select (extract(epoch from at) * 1000)::bigint $$;

create table traffic.projection_offsets (
    projection  text    not null,
    topic       text    not null,
    partition   integer not null,
    next_offset bigint  not null check (next_offset >= 0),
    primary key (projection, topic, partition)
) with (fillfactor = 50);

create table traffic.segments (
    segment_id text        not null primary key,
    latitude   double precision,
    longitude  double precision,
    first_seen timestamptz not null,
    last_seen  timestamptz not null
) with (fillfactor = 50);

create table traffic.aggregates (
    segment_id       text             not null,
    window_start     timestamptz      not null,
    window_end       timestamptz      not null,
    avg_speed        double precision,
    speed_stddev     double precision,
    speed_min        double precision,
    speed_max        double precision,
    vehicle_count    bigint           not null,
    occupancy_avg    double precision not null,
    occupancy_max    double precision,
    congestion_level text,
    latitude         double precision,
    longitude        double precision,
    event_count      bigint           not null,
    quality_score    double precision not null,
    primary key (segment_id, window_start)
) partition by range (window_start);
-- For ranges of time over all segments. A B-tree here would cost more to write, and without statistics the planner
-- would take it for one segment's rows in place of the primary key.
create index aggregates_window_start on traffic.aggregates using brin (window_start);

create table traffic.predictions (
    segment_id                 text             not null,
    prediction_timestamp       timestamptz      not null,
    horizon_minutes            integer          not null,
    target_timestamp           timestamptz      not null,
    predicted_speed            double precision not null,
    current_speed              double precision not null,
    predicted_congestion_level text             not null,
    speed_lower                double precision not null,
    speed_upper                double precision not null,
    speed_quantiles            jsonb            not null,
    confidence_score           double precision not null,
    model_type                 text             not null,
    model_version              text             not null,
    features_used              jsonb            not null,
    latitude                   double precision,
    longitude                  double precision,
    avg_speed_1h               double precision,
    avg_speed_24h              double precision,
    avg_speed_7d               double precision,
    actual_speed               double precision,
    prediction_error           double precision,
    primary key (segment_id, prediction_timestamp, horizon_minutes)
) partition by range (prediction_timestamp);
create index predictions_target on traffic.predictions (segment_id, target_timestamp);
create index predictions_timestamp on traffic.predictions using brin (prediction_timestamp);

-- Sums of whole metres per hour (0.001 km/h) add up to the same in every order.
create table traffic.model_metrics (
    day                                    date    not null,
    horizon_minutes                        integer not null,
    model_version                          text    not null,
    model_type                             text    not null,
    n                                      bigint  not null,
    sum_absolute_error_m_per_h             bigint  not null,
    sum_squared_error_m2_per_h2            bigint  not null,
    sum_absolute_persistence_error_m_per_h bigint  not null,
    primary key (day, horizon_minutes, model_version, model_type)
) with (fillfactor = 50);

create view traffic.model_accuracy as
select day, horizon_minutes, model_version, model_type, n,
    sum_absolute_error_m_per_h / 1000.0::double precision / n as mean_absolute_error_kmh,
    sum_squared_error_m2_per_h2 / 1000000.0::double precision / n as mean_squared_error_km2_per_h2,
    sum_absolute_persistence_error_m_per_h / 1000.0::double precision / n as mean_absolute_persistence_error_kmh
from traffic.model_metrics where n > 0;
