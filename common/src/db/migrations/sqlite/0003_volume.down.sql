alter table predictions drop column predicted_volume;
