-- One row per request: what is searched has a column, the rest is in `record` as JSON.
-- One partition a day (UTC), made ahead by the retention job and dropped whole; the default one catches strays.
CREATE TABLE routeiq_decisions (
  decision_id TEXT NOT NULL,
  time DOUBLE PRECISION NOT NULL,
  key TEXT,
  team TEXT,
  model TEXT,
  requested TEXT,
  strategy TEXT,
  status INTEGER,
  outcome TEXT,
  session_id TEXT,
  experiment TEXT,
  variant TEXT,
  cost_nano BIGINT,
  input_tokens BIGINT,
  output_tokens BIGINT,
  duration_ms DOUBLE PRECISION,
  record TEXT NOT NULL,
  PRIMARY KEY (decision_id, time)
) PARTITION BY RANGE (time);
CREATE TABLE routeiq_decisions_default PARTITION OF routeiq_decisions DEFAULT;
CREATE INDEX routeiq_decisions_time ON routeiq_decisions (time, decision_id);
CREATE INDEX routeiq_decisions_key ON routeiq_decisions (key, time);
CREATE INDEX routeiq_decisions_team ON routeiq_decisions (team, time) WHERE team IS NOT NULL;
CREATE INDEX routeiq_decisions_session ON routeiq_decisions (session_id, time) WHERE session_id IS NOT NULL;
CREATE INDEX routeiq_decisions_experiment ON routeiq_decisions (experiment, time) WHERE experiment IS NOT NULL;
CREATE INDEX routeiq_decisions_outcome ON routeiq_decisions (outcome, time) WHERE outcome <> 'success';

-- One row per decision and key. `position` grows in the order of commits: it is taken from the row below.
CREATE TABLE routeiq_feedback (
  decision_id TEXT NOT NULL,
  key TEXT NOT NULL,
  position BIGINT NOT NULL,
  time DOUBLE PRECISION NOT NULL,
  score DOUBLE PRECISION NOT NULL,
  label TEXT,
  comment TEXT,
  admin INTEGER NOT NULL,
  PRIMARY KEY (decision_id, key)
);
CREATE UNIQUE INDEX routeiq_feedback_by_position ON routeiq_feedback (position);
CREATE INDEX routeiq_feedback_time ON routeiq_feedback (time);

CREATE TABLE routeiq_feedback_position (
  id INTEGER NOT NULL PRIMARY KEY,
  last BIGINT NOT NULL
);
INSERT INTO routeiq_feedback_position (id, last) VALUES (1, 0);
