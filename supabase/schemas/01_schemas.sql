-- Three schemas: public has the tables and the functions of the API; scenario_source has the views through which the
-- app's own tables are read; scenario_private has everything else and is never exposed.

create schema if not exists scenario_private;
comment on schema scenario_private is
  'The inside of scenario_repo: never exposed through the API.';
revoke all on schema scenario_private from public, anon, authenticated;
grant usage on schema scenario_private to service_role;

create schema if not exists scenario_source;
comment on schema scenario_source is
  'Mentors, activities, certificates and device tokens as scenario_repo reads them: views, which an app may redefine.';
revoke all on schema scenario_source from public, anon, authenticated;
grant usage on schema scenario_source to service_role;
