-- Moments: when a clock in some time zone says what, and when a window is open. Pure functions; the policies that give
-- them their values are in 08_policies.sql.

-- The instant at which a clock in the zone shows p_local. A time that the zone leaves out is the first instant after the
-- gap; of two equal ones it is the first, or with p_last the second.
create or replace function scenario_private.local_instant(p_local timestamp, p_time_zone text, p_last boolean)
returns timestamptz
language plpgsql
immutable
strict
set search_path = ''
set timezone = 'UTC'
as $$
declare
  as_utc constant timestamptz := p_local at time zone 'UTC';
  -- No zone changes its clock twice within two days.
  before constant interval := (as_utc - interval '1 day') at time zone p_time_zone
    - (as_utc - interval '1 day') at time zone 'UTC';
  after constant interval := (as_utc + interval '1 day') at time zone p_time_zone
    - (as_utc + interval '1 day') at time zone 'UTC';
  early timestamptz := as_utc - greatest(before, after);
  late timestamptz := as_utc - least(before, after);
  middle timestamptz;
begin
  if before = after then
    return early;
  end if;
  if p_last then
    if late at time zone p_time_zone = p_local then
      return late;
    elsif early at time zone p_time_zone = p_local then
      return early;
    end if;
  elsif early at time zone p_time_zone = p_local then
    return early;
  elsif late at time zone p_time_zone = p_local then
    return late;
  end if;
  -- In the gap: the clock jumps at a whole second in between.
  early := date_trunc('second', early) - interval '1 second';
  late := date_trunc('second', late) + interval '1 second';
  while late - early > interval '1 second' loop
    middle := early + make_interval(secs => floor(extract(epoch from late - early) / 2));
    if middle at time zone p_time_zone > p_local then
      late := middle;
    else
      early := middle;
    end if;
  end loop;
  return late;
end
$$;
revoke all on function scenario_private.local_instant(timestamp, text, boolean) from public, anon, authenticated;
grant execute on function scenario_private.local_instant(timestamp, text, boolean) to service_role;

-- The first instant at or after p_from at which a window is open; null: none within 400 days.
--   p_weekdays   the days on which windows open, 1 (Monday) to 7; null: all
--   p_opens_at, p_closes_at  from, until (exclusive); until not after from: over midnight; null: all day
--   p_days_off   days on which none opens; a window over midnight belongs to the day on which it opens
-- A window opens at the first of two equal local times and closes at the second.
create or replace function scenario_private.next_permitted(
  p_time_zone text,
  p_weekdays integer[],
  p_opens_at time,
  p_closes_at time,
  p_days_off datemultirange,
  p_from timestamptz
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  zone constant text := coalesce(p_time_zone, 'UTC');
  opens_at constant time := coalesce(p_opens_at, '00:00');
  closes_at constant time := coalesce(p_closes_at, '24:00');
  day date;
  opening timestamptz;
  closing timestamptz;
begin
  if p_from is null or not isfinite(p_from) then
    return p_from;
  end if;
  if p_weekdays is null and p_opens_at is null and coalesce(p_days_off, '{}') = '{}' then
    return p_from;
  end if;
  -- From the day before: its window may still be open.
  for ahead in -1..400 loop
    day := (p_from at time zone zone)::date + ahead;
    continue when extract(isodow from day)::integer <> all (p_weekdays) or day <@ p_days_off;
    -- Without hours the whole day is open, and no minute of the next.
    closing := scenario_private.local_instant(day + closes_at + case when closes_at <= opens_at then interval '1 day'
      else interval '0' end, zone, p_closes_at is not null);
    continue when p_from >= closing;
    opening := scenario_private.local_instant(day + opens_at, zone, false);
    -- A window or a day that the zone leaves out as a whole never opens.
    if opening < closing then
      return greatest(p_from, opening);
    end if;
  end loop;
  return null;
end
$$;
revoke all on function
  scenario_private.next_permitted(text, integer[], time, time, datemultirange, timestamptz)
  from public, anon, authenticated;
grant execute on function
  scenario_private.next_permitted(text, integer[], time, time, datemultirange, timestamptz)
  to service_role;

-- The instant from which, up to p_until, the clock has run for p_length: it stands still in p_stopped.
create or replace function scenario_private.clock_back(
  p_until timestamptz, p_length interval, p_stopped tstzmultirange
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  place timestamptz := p_until;
  remaining interval := p_length;
  stop tstzrange;
begin
  for stop in select range from unnest(p_stopped) as range order by range desc loop
    continue when lower(stop) >= place;
    if upper(stop) < place then
      exit when place - upper(stop) >= remaining;
      remaining := remaining - (place - upper(stop));
    end if;
    place := lower(stop);
  end loop;
  return place - remaining;
end
$$;
revoke all on function scenario_private.clock_back(timestamptz, interval, tstzmultirange)
  from public, anon, authenticated;
grant execute on function scenario_private.clock_back(timestamptz, interval, tstzmultirange) to service_role;

-- The instant at which the clock has run for p_length since p_since: it stands still in p_stopped.
create or replace function scenario_private.clock_forward(
  p_since timestamptz, p_length interval, p_stopped tstzmultirange
)
returns timestamptz
language plpgsql
immutable
set search_path = ''
set timezone = 'UTC'
as $$
declare
  place timestamptz := p_since;
  remaining interval := p_length;
  stop tstzrange;
begin
  for stop in select range from unnest(p_stopped) as range order by range loop
    continue when upper(stop) <= place;
    if lower(stop) > place then
      exit when lower(stop) - place >= remaining;
      remaining := remaining - (lower(stop) - place);
    end if;
    place := upper(stop);
  end loop;
  return place + remaining;
end
$$;
revoke all on function scenario_private.clock_forward(timestamptz, interval, tstzmultirange)
  from public, anon, authenticated;
grant execute on function scenario_private.clock_forward(timestamptz, interval, tstzmultirange) to service_role;
