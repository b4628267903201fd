-- Realtime: an app sees its user's new notifications as they come. Row level security holds there too: Realtime
-- sends a row to those who may select it. Nothing happens where there is no publication supabase_realtime.

do $$
begin
  if exists (select from pg_publication where pubname = 'supabase_realtime')
    and not exists (
      select
      from pg_publication_tables
      where pubname = 'supabase_realtime'
        and schemaname = 'public'
        and tablename = 'scenario_notifications'
    )
  then
    alter publication supabase_realtime add table public.scenario_notifications;
  end if;
end
$$;
