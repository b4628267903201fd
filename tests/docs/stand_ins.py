"""The platform's extensions as far as the documents call them, with the signatures that they have there."""

from __future__ import annotations

from typing import Final

STAND_INS: Final = """
create schema cron;
create table cron.job (jobname text primary key, schedule text, command text);
create table cron.job_run_details (jobid bigint, end_time timestamptz);
create function cron.schedule(job_name text, schedule text, command text) returns bigint language sql as
  'insert into cron.job values ($1, $2, $3); select 1::bigint';

create schema vault;
create table vault.secrets (name text unique, decrypted_secret text);
create view vault.decrypted_secrets as select name, decrypted_secret from vault.secrets;
create function vault.create_secret(new_secret text, new_name text default null) returns uuid language sql as
  'insert into vault.secrets values ($2, $1); select gen_random_uuid()';

create schema net;
create table net.calls (url text, body jsonb, params jsonb, headers jsonb, timeout_milliseconds integer);
create function net.http_post(
  url text,
  body jsonb default '{}',
  params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}',
  timeout_milliseconds integer default 5000
) returns bigint language sql as
  'insert into net.calls values ($1, $2, $3, $4, $5); select 1::bigint';
"""
