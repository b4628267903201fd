-- The pages of an evaluation read active mentors by user_id: from an index alone, in the order in which their activities
-- and notifications lie in theirs. Neither the primary key nor the index by organization has is_active, and both sent
-- every page to the heap. One index for each order: with that by user alone, a plan that knows no organization in
-- particular reads all of it.

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

-- Not dropped: its name is the one PostgreSQL gives, so an app may have made it itself, and it stays as it is.
comment on index public.peer_mentors_organization_id_user_id_idx is
  'Serves: an app''s own reads of an organization''s mentors, active or not; evaluation reads the active ones'' indexes.';
