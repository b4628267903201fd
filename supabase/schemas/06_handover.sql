-- The hand-over: where each pending notification is on its way. One narrow row per pending notification; leases and
-- retries touch only this, settling removes it.
--
-- Three things are kept apart: lease_number, the token of a lease, grows with every lease; attempt_count counts the
-- tries that were spent; leased_until says in whose hands it is.
--
-- Its index serves organizations in turn: however many rows one of them has waiting, the next one's are a step away.

create table if not exists scenario_private.handover (
  notification_id uuid primary key,
  user_id uuid not null,
  organization_id uuid not null,
  scenario_type text not null,
  triggered_at timestamptz not null default now(),
  next_attempt_at timestamptz not null default now(),
  leased_at timestamptz,
  leased_until timestamptz,
  lease_number integer not null default 0,
  attempt_count integer not null default 0,
  unsettled_at timestamptz,
  unsettled_leases integer not null default 0,
  reached text[],

  constraint handover_counts_are_not_negative
    check (lease_number >= 0 and attempt_count >= 0)
)
-- Leased together, settled together: each row needs a free place in its page, so that a lease touches no index.
with (fillfactor = 50);

comment on table scenario_private.handover is
  'The pending notifications: when each may be handed out, in whose hands it is, how often it was tried.';
comment on column scenario_private.handover.triggered_at is
  'The notification''s: what is pending is counted by day without a look at it.';
comment on column scenario_private.handover.next_attempt_at is
  'When the notification may be leased.';
comment on column scenario_private.handover.leased_at is
  'When its lease began.';
comment on column scenario_private.handover.leased_until is
  'When its lease ends, or ended without being settled; null: it is in nobody''s hands.';
comment on column scenario_private.handover.lease_number is
  'The token of its lease: it grows with every lease.';
comment on column scenario_private.handover.attempt_count is
  'How many tries were spent; a lease spends one, a release gives it back.';
comment on column scenario_private.handover.unsettled_at is
  'When the last lease ended that nobody settled: the user may have been told by then.';

comment on column scenario_private.handover.unsettled_leases is
  'How many leases in a row ended unsettled before the last one: it may be what its workers die of.';
comment on column scenario_private.handover.reached is
  'The devices that it has reached, each as the SHA-256 of its token.';

create index if not exists handover_due_idx
  on scenario_private.handover (organization_id, scenario_type, next_attempt_at);
comment on index scenario_private.handover_due_idx is
  'Serves: the lease (of each organization and scenario type, the longest due first; which organizations there are).';

create index if not exists handover_suspects_idx
  on scenario_private.handover (notification_id)
  where unsettled_leases > 0;
comment on index scenario_private.handover_suspects_idx is
  'Serves: the lease of what may kill its workers, last and alone. Hardly anything is in it.';

alter table scenario_private.handover enable row level security;

drop policy if exists handover_service_role_policy on scenario_private.handover;
create policy handover_service_role_policy
  on scenario_private.handover
  for all
  to service_role
  using (true)
  with check (true);

revoke all on table scenario_private.handover from public, anon, authenticated, service_role;
grant select, insert, update, delete on table scenario_private.handover to service_role;

-- No foreign key: it would cost each claim a look-up. Its work is done when notifications go.
create or replace function scenario_private.end_handovers()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op = 'TRUNCATE' then
    truncate scenario_private.handover;
  else
    delete from scenario_private.handover as handover
    using gone
    where handover.notification_id = gone.id;
  end if;
  return null;
end
$$;
revoke all on function scenario_private.end_handovers() from public, anon, authenticated, service_role;

create or replace trigger scenario_notifications_end_handovers
  after delete on public.scenario_notifications
  referencing old table as gone
  for each statement
  execute function scenario_private.end_handovers();

create or replace trigger scenario_notifications_end_all_handovers
  after truncate on public.scenario_notifications
  for each statement
  execute function scenario_private.end_handovers();
