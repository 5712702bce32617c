drop table traffic.alert_history, traffic.alerts;
-- Without its rows the projection begins anew.
delete from traffic.projection_offsets where projection = 'alerts';
