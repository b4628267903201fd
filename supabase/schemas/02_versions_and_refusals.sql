-- The schema's version, and the refusals that several functions share.
--
-- Refusals carry SQLSTATEs of our own, one for each kind. Their messages are written here and hold no personal value;
-- the library shows them to the caller (scenario_repo/_translation.py has the same list):
--
--   SR001  an argument is missing or out of bounds
--   SR002  a notification's history is final
--   SR003  too many elements in one call
--   SR004  no such scenario type
--   SR005  the scenario type's default settings are missing
--   SR006  the library needs a newer schema
--   SR007  the app's own tables don't have what scenario_repo reads (migrations only)
--   SR008  a scenario type of the app's own is not what it has to be

-- Raised by one with every release that changes the schema. A function's answer only gains fields; a function whose
-- answer changes otherwise gets a new name. So a library works with every schema that is at least as new as it needs.
create or replace function scenario_private.schema_version()
returns integer
language sql
immutable
set search_path = ''
as $$
  select 1
$$;
revoke all on function scenario_private.schema_version() from public, anon, authenticated;
grant execute on function scenario_private.schema_version() to service_role;

-- Raises SR001 where the transaction reads simulated settings (08_settings.sql): nothing is claimed, handed out or
-- answered by them. Only scenario_simulate sets them, and takes them back before it ends.
create or replace function scenario_private.require_real_settings()
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if current_setting('scenario_repo.simulated_settings', true) <> '' then
    raise exception using
      errcode = 'SR001',
      message = 'the session has scenario_repo.simulated_settings, which are scenario_simulate''s alone: reset them';
  end if;
end
$$;
revoke all on function scenario_private.require_real_settings() from public, anon, authenticated;
grant execute on function scenario_private.require_real_settings() to service_role;

-- Raises SR006 if the caller needs a newer schema than this one. Null, a caller that doesn't say, passes.
-- Every function of the API asks this first: a mismatch is refused before anything is read or written. So are simulated
-- settings (SR001).
create or replace function scenario_private.require_schema(p_needed_version integer)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  perform scenario_private.require_real_settings();
  if p_needed_version > scenario_private.schema_version() then
    raise exception using
      errcode = 'SR006',
      message = format(
        'this scenario_repo needs version %s of its schema, the database has version %s: apply the newer migrations'
          ' (scenario-repo migrations supabase/migrations, then supabase db push)',
        p_needed_version, scenario_private.schema_version()
      );
  end if;
end
$$;
revoke all on function scenario_private.require_schema(integer) from public, anon, authenticated;
grant execute on function scenario_private.require_schema(integer) to service_role;

-- Raises SR001 unless the value lies between the bounds. p_argument is what the message calls it.
create or replace function scenario_private.require_between(
  p_argument text, p_value double precision, p_least double precision, p_most double precision
)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_value is null or p_value not between p_least and p_most then
    raise exception using
      errcode = 'SR001',
      message = format(
        'expected %s from %s to %s, got %s', p_argument, p_least, p_most, coalesce(p_value::text, 'null')
      );
  end if;
end
$$;
revoke all on function scenario_private.require_between(text, double precision, double precision, double precision)
  from public, anon, authenticated;
grant execute on function scenario_private.require_between(text, double precision, double precision, double precision)
  to service_role;

-- Raises SR003 for more elements than one statement can finish in time.
create or replace function scenario_private.require_at_most(p_count integer, p_most integer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_count > p_most then
    raise exception using errcode = 'SR003', message = format('expected at most %s elements, got %s', p_most, p_count);
  end if;
end
$$;
revoke all on function scenario_private.require_at_most(integer, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_at_most(integer, integer) to service_role;

-- Raises SR001 unless p_elements is a json array, SR003 if it has more than p_most elements.
create or replace function scenario_private.require_array(p_argument text, p_elements jsonb, p_most integer)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if jsonb_typeof(p_elements) is distinct from 'array' then
    raise exception using
      errcode = 'SR001',
      message = format('expected %s as a json array, got %s', p_argument, coalesce(jsonb_typeof(p_elements), 'null'));
  end if;
  perform scenario_private.require_at_most(jsonb_array_length(p_elements), p_most);
end
$$;
revoke all on function scenario_private.require_array(text, jsonb, integer) from public, anon, authenticated;
grant execute on function scenario_private.require_array(text, jsonb, integer) to service_role;

-- Raises SR001 for null, an argument that is needed.
create or replace function scenario_private.require_given(p_argument text, p_value anyelement)
returns void
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_value is null then
    raise exception using errcode = 'SR001', message = format('expected %s, got null', p_argument);
  end if;
end
$$;
revoke all on function scenario_private.require_given(text, anyelement) from public, anon, authenticated;
grant execute on function scenario_private.require_given(text, anyelement) to service_role;
