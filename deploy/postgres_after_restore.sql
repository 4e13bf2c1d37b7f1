-- After a restore of the coordinators' PostgreSQL from a backup, before a coordinator starts:
--   psql -d weft -f deploy/postgres_after_restore.sql
-- The backup is older than what has happened since. So that nothing is mixed up, numbers of jobs and generations move on
-- by a thousand, as weft-backup does for SQLite.
\set ON_ERROR_STOP on
BEGIN;
UPDATE weft.meta SET last_job = last_job + 1000;
UPDATE weft.jobs SET generation = generation + 1000,
  record = jsonb_set(record::jsonb, '{generation}', to_jsonb((record::jsonb ->> 'generation')::bigint + 1000))::text
  WHERE generation > 0 AND state NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED');
COMMIT;
