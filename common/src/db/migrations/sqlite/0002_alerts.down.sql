drop table alert_history;
drop table alerts;
-- Without its rows the projection begins anew.
delete from projection_offsets where projection = 'alerts';
