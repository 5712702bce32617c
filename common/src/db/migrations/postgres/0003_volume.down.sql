alter table traffic.predictions drop column predicted_volume;
