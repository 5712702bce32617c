drop view model_accuracy;
drop table model_metrics;
drop table predictions;
drop table aggregates;
drop table segments;
drop table projection_offsets;
