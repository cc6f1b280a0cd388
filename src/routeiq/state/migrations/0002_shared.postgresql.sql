
-- Updated all the time: room on each page lets a new version of a row stay beside the old one (HOT).
ALTER TABLE routeiq_limits SET (fillfactor = 50);
ALTER TABLE routeiq_counters SET (fillfactor = 50);
ALTER TABLE routeiq_batches SET (fillfactor = 50);
