-- What workers share where there is no Redis. Times are seconds since the epoch by the database's clock.

-- A bucket of limits; one of slots has a row for each worker. expires_at 0 is never.
CREATE TABLE routeiq_limits (
  tenant TEXT NOT NULL,
  bucket TEXT NOT NULL,
  worker TEXT NOT NULL,
  kind TEXT NOT NULL,
  taken BIGINT NOT NULL,
  number BIGINT NOT NULL,
  previous BIGINT NOT NULL,
  window_s DOUBLE PRECISION NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (tenant, bucket, worker)
);

CREATE TABLE routeiq_counters (
  name TEXT NOT NULL,
  field TEXT NOT NULL,
  amount BIGINT NOT NULL,
  PRIMARY KEY (name, field)
);

-- The last batch of each worker for each tenant of limits and group of counters: one that comes again is skipped.
CREATE TABLE routeiq_batches (
  scope TEXT NOT NULL,
  worker TEXT NOT NULL,
  seq BIGINT NOT NULL,
  seen_at DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (scope, worker)
);

CREATE TABLE routeiq_breakers (
  id TEXT NOT NULL PRIMARY KEY,
  until DOUBLE PRECISION NOT NULL,
  worker TEXT NOT NULL,
  reason TEXT NOT NULL
);

CREATE TABLE routeiq_probes (
  id TEXT NOT NULL PRIMARY KEY,
  worker TEXT NOT NULL,
  until DOUBLE PRECISION NOT NULL
);

CREATE TABLE routeiq_conversations (
  key TEXT NOT NULL PRIMARY KEY,
  deployment TEXT NOT NULL,
  expires_at DOUBLE PRECISION NOT NULL
);
CREATE INDEX routeiq_conversations_expiry ON routeiq_conversations (expires_at);

CREATE TABLE routeiq_leases (
  name TEXT NOT NULL PRIMARY KEY,
  holder TEXT NOT NULL,
  token BIGINT NOT NULL,
  until DOUBLE PRECISION NOT NULL
);
