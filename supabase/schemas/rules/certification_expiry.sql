-- certification_expiry: a certificate of this organization lapses within expires_within, has not lapsed yet, and is not
-- renewed: no certificate of the same user, organization and kind lapses later. A certificate without a kind renews
-- nothing. What it is about is the kinds, and the certificates without one. The facts list the certificates (the 50
-- that lapse first: metadata is bounded).
create or replace view scenario_private.certification_expiry_rule
with (security_invoker = true)
as
select
  setting.scenario_type,
  setting.user_id,
  setting.organization_id,
  setting.is_active,
  setting.is_enabled,
  setting.is_evaluated,
  setting.cooldown,
  null::integer as milestone_value,
  expiring.certificate_ids is not null as is_due,
  case when expiring.certificate_ids is not null then 'certificate_expiring' else 'no_certificate_expiring' end
    as finding,
  jsonb_build_object('certificate_ids', expiring.certificate_ids, 'expires_at', expiring.expires_at) as facts,
  coalesce(expiring.subjects, '{}') as subjects,
  null::timestamptz as crossed_at,
  setting.history_before,
  null::timestamptz as series_began_at,
  null::integer as series_limit,
  expiring.certificate_ids is not null as stands
from scenario_private.mentor_setting as setting
left join lateral (
  select
    jsonb_agg(certificate.id order by certificate.expires_at, certificate.id) as certificate_ids,
    min(certificate.expires_at) as expires_at,
    array_agg(
      distinct
      case
        when certificate.kind is null then certificate.id
        when certificate.kind ~ '^[A-Za-z_ -]+[0-9]{0,4}$' and char_length(certificate.kind) <= 64 then certificate.kind
        else scenario_private.subject_of(certificate.kind)
      end
    ) as subjects
  from (
    select
      -- An ordinary one is spared the function; so is an ordinary kind.
      case
        when held.certificate_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then held.certificate_id
        else scenario_private.subject_of(held.certificate_id)
      end as id,
      held.kind,
      held.expires_at
    from scenario_source.certificates as held
    where held.user_id = setting.user_id
      and held.organization_id = setting.organization_id
      and held.expires_at > now()
      and held.expires_at <= setting.expires_until
      and not exists (
        select
        from scenario_source.certificates as renewal
        where renewal.user_id = held.user_id
          and renewal.organization_id = held.organization_id
          and renewal.kind = held.kind
          and renewal.expires_at > held.expires_at
      )
    order by held.expires_at
    limit 50
  ) as certificate
) as expiring on true
where setting.scenario_type = 'certification_expiry';
comment on view scenario_private.certification_expiry_rule is
  'Due: at least one certificate of the organization lapses within expires_within, has not lapsed and is not renewed.';
revoke all on table scenario_private.certification_expiry_rule from public, anon, authenticated;
grant select on table scenario_private.certification_expiry_rule to service_role;

-- Hoped for: one of the certificates that it named is renewed, as the rule judges it: a later one of its kind is there.
-- Or, where it named one alone, that one's time was moved, or a new row took its place. No date says when: what counts
-- is whether it is so by now.
create or replace view scenario_private.certification_expiry_hope
with (security_invoker = true)
as
select
  notification.id as notification_id,
  case
    when exists (
      select
      from scenario_source.certificates as held
      cross join lateral (
        select
          case
            when held.certificate_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then held.certificate_id
            else scenario_private.subject_of(held.certificate_id)
          end as id
      ) as known
      where held.user_id = notification.user_id
        and held.organization_id = notification.organization_id
        and (
          (
            notification.metadata -> 'certificate_ids' ? known.id
            and exists (
              select
              from scenario_source.certificates as renewal
              where renewal.user_id = held.user_id
                and renewal.organization_id = held.organization_id
                and renewal.kind = held.kind
                and renewal.expires_at > held.expires_at
            )
          )
          or (
            held.expires_at > told.expires_at
            and coalesce(scenario_private.subject_of(held.kind), known.id) = any (notification.subjects)
          )
        )
    )
      then notification.settled_at
  end as hoped_at
from public.scenario_notifications as notification
cross join lateral (
  -- An evaluation's facts are the rule's; an app's own may hold anything.
  select case
    when notification.origin = 'evaluation'
      and cardinality(notification.subjects) = 1
      and notification.metadata ->> 'expires_at' ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+[+]00:00$'
      then (notification.metadata ->> 'expires_at')::timestamptz
  end as expires_at
) as told
where notification.scenario_type = 'certification_expiry';
comment on view scenario_private.certification_expiry_hope is
  'Hoped for: one of the certificates that it named is renewed by now.';
revoke all on table scenario_private.certification_expiry_hope from public, anon, authenticated;
grant select on table scenario_private.certification_expiry_hope to service_role;
