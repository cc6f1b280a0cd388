-- Keys, users and teams; control state; the workers. Times are seconds since the epoch, bodies are JSON.

CREATE TABLE routeiq_entities (
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  alias TEXT NOT NULL,
  version BIGINT NOT NULL,
  body TEXT,
  secret_hash TEXT,
  prefix TEXT,
  owner TEXT,
  team TEXT,
  created_at DOUBLE PRECISION NOT NULL,
  expires_at DOUBLE PRECISION,
  revoked_at DOUBLE PRECISION
);
CREATE UNIQUE INDEX routeiq_entities_hash ON routeiq_entities (secret_hash);
CREATE UNIQUE INDEX routeiq_entities_alias ON routeiq_entities (kind, alias);
CREATE INDEX routeiq_entities_kind ON routeiq_entities (kind, id);
CREATE INDEX routeiq_entities_team ON routeiq_entities (kind, team, id);
CREATE INDEX routeiq_entities_owner ON routeiq_entities (owner);

CREATE TABLE routeiq_documents (
  name TEXT PRIMARY KEY,
  version BIGINT NOT NULL,
  body TEXT,
  updated_at DOUBLE PRECISION NOT NULL,
  updated_by TEXT NOT NULL
);

CREATE TABLE routeiq_generations (
  name TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO routeiq_generations (name, value) VALUES ('keys', 0), ('control', 0);

CREATE TABLE routeiq_workers (
  id TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  pid BIGINT NOT NULL,
  started_at DOUBLE PRECISION NOT NULL,
  seen_at DOUBLE PRECISION NOT NULL,
  generation BIGINT NOT NULL,
  directory BIGINT NOT NULL,
  config TEXT NOT NULL,
  version TEXT NOT NULL
);
