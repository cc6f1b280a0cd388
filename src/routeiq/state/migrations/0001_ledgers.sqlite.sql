
-- AUTOINCREMENT: an id is never given twice, also after rows were deleted.
CREATE TABLE routeiq_audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time DOUBLE PRECISION NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  details TEXT,
  request_id TEXT
);
CREATE INDEX routeiq_audit_time ON routeiq_audit (time);

-- What LISTEN and NOTIFY do elsewhere: read by other processes, deleted after a minute.
CREATE TABLE routeiq_events (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  time DOUBLE PRECISION NOT NULL,
  topic TEXT NOT NULL,
  payload TEXT NOT NULL
);
