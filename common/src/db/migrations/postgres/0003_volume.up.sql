-- Vehicles expected in the five minutes up to the target; null where none are counted.
alter table traffic.predictions add column predicted_volume integer;
