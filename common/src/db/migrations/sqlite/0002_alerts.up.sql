-- Alerts as they are now, and every transition that led there.

create table alerts (
    alert_id         text    not null primary key,
    sequence         integer not null,
    segment_id       text    not null,
    rule             text    not null,
    alert_type       text    not null,
    severity         text    not null,
    status           text    not null,
    changed_at       integer not null,
    opened_at        integer not null,
    resolved_at      integer,
    detection_source text    not null,
    description      text    not null,
    value            real,
    threshold        real,
    confidence_score real,
    latitude         real,
    longitude        real,
    changed_by       text
) strict;
create index alerts_changed_at on alerts (changed_at);
create index alerts_segment on alerts (segment_id, opened_at);
create index alerts_unended on alerts (opened_at) where status in ('ACTIVE', 'INVESTIGATING');

create table alert_history (
    alert_id         text    not null,
    sequence         integer not null,
    segment_id       text    not null,
    rule             text    not null,
    alert_type       text    not null,
    severity         text    not null,
    status           text    not null,
    changed_at       integer not null,
    opened_at        integer not null,
    resolved_at      integer,
    detection_source text    not null,
    description      text    not null,
    value            real,
    threshold        real,
    confidence_score real,
    latitude         real,
    longitude        real,
    changed_by       text,
    primary key (alert_id, sequence)
) strict;
create index alert_history_changed_at on alert_history (changed_at);
