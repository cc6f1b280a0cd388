
-- Pages follow the order of ids: bytewise, as in SQLite, whatever the database's locale.
ALTER TABLE routeiq_entities ALTER COLUMN id TYPE TEXT COLLATE "C";

CREATE TABLE routeiq_audit (
  id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  time DOUBLE PRECISION NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  details TEXT,
  request_id TEXT
);
CREATE INDEX routeiq_audit_time ON routeiq_audit (time);
