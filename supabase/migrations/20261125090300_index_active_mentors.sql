-- The pages of an evaluation read active mentors by user_id: from an index alone, in the order in which their activities
-- and notifications lie in theirs. Neither the primary key nor the index by organization had is_active, and both sent
-- every page to the heap. The one by organization is replaced: with an index-only scan of all mentors beside it, a plan
-- that knows no organization in particular would leave it.

create index if not exists peer_mentors_active_by_user_idx
  on public.peer_mentors (user_id, organization_id)
  where is_active;
comment on index public.peer_mentors_active_by_user_idx is
  'Serves: the pages of an evaluation of all organizations, index-only and by user_id.';

create index if not exists peer_mentors_active_by_organization_idx
  on public.peer_mentors (organization_id, user_id)
  where is_active;
comment on index public.peer_mentors_active_by_organization_idx is
  'Serves: the pages of an evaluation of one organization, and its inactive mentors, index-only and by user_id.';

drop index if exists public.peer_mentors_organization_id_user_id_idx;
