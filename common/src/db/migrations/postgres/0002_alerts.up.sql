-- Alerts as they are now, and every transition that led there.

create table traffic.alerts (
    alert_id         text        not null primary key,
    sequence         integer     not null,
    segment_id       text        not null,
    rule             text        not null,
    alert_type       text        not null,
    severity         text        not null,
    status           text        not null,
    changed_at       timestamptz not null,
    opened_at        timestamptz not null,
    resolved_at      timestamptz,
    detection_source text        not null,
    description      text        not null,
    value            double precision,
    threshold        double precision,
    confidence_score double precision,
    latitude         double precision,
    longitude        double precision,
    changed_by       text
);
create index alerts_changed_at on traffic.alerts (changed_at);
create index alerts_segment on traffic.alerts (segment_id, opened_at);
create index alerts_unended on traffic.alerts (opened_at) where status in ('ACTIVE', 'INVESTIGATING');

create table traffic.alert_history (
    like traffic.alerts,
    primary key (alert_id, sequence)
);
create index alert_history_changed_at on traffic.alert_history (changed_at);
