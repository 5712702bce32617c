drop view traffic.model_accuracy;
drop table traffic.model_metrics, traffic.predictions, traffic.aggregates, traffic.segments, traffic.projection_offsets;
drop function traffic.from_ms(bigint), traffic.to_ms(timestamptz);
