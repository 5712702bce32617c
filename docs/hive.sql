-- The archive as tables of Hive or Spark SQL, for those who do not let the workers register it (hive.metastore).
-- Put your store in place of hdfs://namenode:9000. MSCK REPAIR finds the hours that are there; say it again for new ones.

CREATE DATABASE IF NOT EXISTS traffic;
USE traffic;

CREATE EXTERNAL TABLE IF NOT EXISTS raw_events (
  `event_id` string,
  `segment_id` string,
  `timestamp` timestamp,
  `speed_kmh` double,
  `volume_count` bigint,
  `flow_per_hour` double,
  `occupancy` double,
  `latitude` double,
  `longitude` double,
  `source` string,
  `quality_score` double,
  `topic` string,
  `partition` int,
  `offset` bigint,
  `record_timestamp` timestamp,
  `key` binary,
  `headers` string,
  `payload` binary
)
COMMENT 'Valid sensor events, by event time (UTC)'
PARTITIONED BY (`date` string, `hour` string)
STORED AS PARQUET
LOCATION 'hdfs://namenode:9000/traffic-data/raw';

CREATE EXTERNAL TABLE IF NOT EXISTS aggregates (
  `aggregate_id` string,
  `segment_id` string,
  `window_start` timestamp,
  `window_end` timestamp,
  `avg_speed` double,
  `speed_stddev` double,
  `speed_min` double,
  `speed_max` double,
  `vehicle_count` bigint,
  `occupancy_avg` double,
  `occupancy_max` double,
  `congestion_level` string,
  `latitude` double,
  `longitude` double,
  `event_count` bigint,
  `quality_score` double,
  `topic` string,
  `partition` int,
  `offset` bigint,
  `record_timestamp` timestamp,
  `key` binary,
  `headers` string,
  `payload` binary
)
COMMENT '5-minute aggregates by window_start (UTC), a correction as a row with a larger event_count'
PARTITIONED BY (`date` string, `hour` string)
STORED AS PARQUET
LOCATION 'hdfs://namenode:9000/traffic-data/processed/aggregates';

CREATE EXTERNAL TABLE IF NOT EXISTS predictions (
  `prediction_id` string,
  `segment_id` string,
  `prediction_timestamp` timestamp,
  `prediction_horizon` bigint,
  `target_timestamp` timestamp,
  `predicted_speed` double,
  `predicted_volume` bigint,
  `current_speed` double,
  `predicted_congestion_level` string,
  `speed_lower` double,
  `speed_upper` double,
  `q05` double,
  `q10` double,
  `q15` double,
  `q20` double,
  `q25` double,
  `q30` double,
  `q35` double,
  `q40` double,
  `q45` double,
  `q50` double,
  `q55` double,
  `q60` double,
  `q65` double,
  `q70` double,
  `q75` double,
  `q80` double,
  `q85` double,
  `q90` double,
  `q95` double,
  `confidence_score` double,
  `model_version` string,
  `model_type` string,
  `features_used` array<string>,
  `latitude` double,
  `longitude` double,
  `avg_speed_1h` double,
  `avg_speed_24h` double,
  `avg_speed_7d` double,
  `topic` string,
  `partition` int,
  `offset` bigint,
  `record_timestamp` timestamp,
  `key` binary,
  `headers` string,
  `payload` binary
)
COMMENT 'Forecasts, by prediction_timestamp (UTC)'
PARTITIONED BY (`date` string, `hour` string)
STORED AS PARQUET
LOCATION 'hdfs://namenode:9000/traffic-data/processed/predictions';

SET hive.msck.path.validation=skip;
MSCK REPAIR TABLE raw_events;
MSCK REPAIR TABLE aggregates;
MSCK REPAIR TABLE predictions;
