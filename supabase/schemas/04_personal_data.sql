-- No personal data in metadata: no personnummer, no fødselsnummer, no e-mail address, no phone number; in values or
-- keys, at any depth, as string or as number. The library refuses them with a better message; this is for every other
-- writer, and says exactly the same (scenario_repo/_personal_data.py): the tests hold both to one corpus and to each
-- other. What can't be told from ordinary data passes, see there.
--
-- The constraint costs an ordinary small object one cheap regular expression. It sends on to the function whatever the
-- function could refuse: text beyond printable ASCII, escapes, @, %, a plus sign that starts no hh:mm, and eight
-- digits or what may stand between them, up to where a number may end.

-- Undoes what makes the same text look otherwise: widths, scripts, invisible characters, percent-encoding.
create or replace function scenario_private.plain_text(p_text text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  plain text := p_text;
  -- The zeros of the decimal digits that compatibility normalisation leaves alone.
  zeros constant integer[] := '{
    1632, 1776, 1984, 2406, 2534, 2662, 2790, 2918, 3046, 3174, 3302, 3430, 3558, 3664, 3792, 3872, 4160, 4240,
    6112, 6160, 6470, 6608, 6784, 6800, 6992, 7088, 7232, 7248, 42528, 43216, 43264, 43472, 43504, 43600, 44016,
    66720, 68912, 69734, 69872, 69942, 70096, 70384, 70736, 70864, 71248, 71360, 71472, 71904, 72016, 72784,
    73040, 73120, 73552, 92768, 92864, 93008, 123200, 123632, 124144, 125264
  }'::integer[];
begin
  if plain ~ '[^ -~]' then
    plain := normalize(plain, nfkc);
  end if;
  -- Letter by letter, but for what is plain already: ASCII, and the letters of most of Europe.
  if plain ~ '[^ -~\u00c0-\u024f]' then
    select coalesce(string_agg(
      case
        when part.code between 32 and 126 then part.letter
        -- invisible characters
        when part.code <@ '{
          [1,8], [14,31], [127,132], [134,159], [173,173], [768,879], [1564,1564], [4447,4448], [6068,6069],
          [6155,6159], [8203,8207], [8234,8238], [8288,8303], [8400,8447], [12644,12644], [65024,65039],
          [65279,65279], [65440,65440], [65520,65531], [113824,113827], [119155,119162], [917504,921599]
        }'::int4multirange then ''
        -- dashes, spaces, dots, slashes, a plus sign
        when part.code <@ '{
          [1418,1418], [1470,1470], [5120,5120], [6150,6150], [8208,8213], [8259,8259], [8722,8722], [11799,11799],
          [11802,11802], [11834,11835], [11840,11840], [11869,11869], [12316,12316], [12336,12336], [12448,12448],
          [69293,69293]
        }'::int4multirange then '-'
        when part.code <@ '{[9,13], [133,133], [5760,5760], [8232,8233], [10240,10240]}'::int4multirange then ' '
        when part.code in (183, 8226, 8231, 12290, 12539) then '.'
        when part.code in (8260, 8725) then '/'
        when part.code = 10133 then '+'
        when part.code < zeros[1] then part.letter
        when part.code < zeros[width_bucket(part.code, zeros)] + 10
          then (part.code - zeros[width_bucket(part.code, zeros)])::text
        else part.letter
      end,
      '' order by part.ordinal
    ), '')
    into plain
    from (
      select letters.letter, ascii(letters.letter) as code, letters.ordinal
      from string_to_table(plain, null) with ordinality as letters (letter, ordinal)
    ) as part;
  end if;
  if strpos(plain, '%') > 0 then
    select string_agg(
      case
        when piece.ordinal = 1 then piece.rest
        when piece.rest !~ '^[2-7][0-9A-Fa-f]' then '%' || piece.rest
        when piece.rest ~ '^7[Ff]' then substr(piece.rest, 3)
        else chr(get_byte(decode(left(piece.rest, 2), 'hex'), 0)) || substr(piece.rest, 3)
      end,
      '' order by piece.ordinal
    )
    into plain
    from string_to_table(regexp_replace(plain, '%(25)+(?=[0-9A-Fa-f]{2})', '%', 'g'), '%')
      with ordinality as piece (rest, ordinal);
  end if;
  return regexp_replace(plain, ' {2,}', ' ', 'g');
end
$$;

-- Whether a key says that its value is a phone number: phone, mobilNummer, contact-tel; but not telemetry.
create or replace function scenario_private.names_a_phone(p_key text)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select translate(
    regexp_replace(scenario_private.plain_text(p_key), '([a-z0-9])([A-Z])', '\1 \2', 'g'),
    'ABCDEFGHIJKLMNOPQRSTUVWXYZ',
    'abcdefghijklmnopqrstuvwxyz'
  ) ~ (
    '(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|tel|tlf|sms|msisdn|cell|whatsapp)'
    '(?:number|nummer|num|nr|no)?(?![a-z])'
  )
$$;

-- Whether the digits after a plus sign, up to the end of any of their groups, have the length that numbers of their
-- country calling code may have: as Google's libphonenumber knows (phonenumberslite 9.0.42).
create or replace function scenario_private.is_phone_number(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits text := '';
  digit_group text;
begin
  foreach digit_group in array regexp_split_to_array(replace(p_number, '(0)', ' '), '[^0-9]+') loop
    digits := digits || digit_group;
    exit when length(digits) > 15;
    if length(digits) >= 8 and digits ~ '(?x)^(
      (290|500|682)[0-9]{5}|247[0-9]{5,6}|(688|690)[0-9]{5,7}|386[0-9]{5,8}|352[0-9]{5,11}|
      (358|598|971)[0-9]{5,12}|852([0-9]{5,9}|[0-9]{11})|685([0-9]{5,7}|[0-9]{10})|67[678]([0-9]{5}|[0-9]{7})|
      686([0-9]{5}|[0-9]{8})|(29[89]|672|687)[0-9]{6}|597[0-9]{6,7}|(252|355)[0-9]{6,9}|
      (27|48|64|95|880)[0-9]{6,10}|(31|375|595)[0-9]{6,11}|(39|381)[0-9]{6,12}|4[39][0-9]{6,13}|
      (46|61)([0-9]{6,10}|[0-9]{12})|359([0-9]{6,9}|[0-9]{12})|53([0-9]{6,8}|[0-9]{10})|
      421([0-9]{6,7}|[0-9]{9})|98([0-9]{6,7}|[0-9]{10})|(376|689)([0-9]{6}|[0-9]{8,9})|
      (63|82)([0-9]{6}|[0-9]{8,13})|(40|508|681)([0-9]{6}|[0-9]{9})|
      (23[89]|24[68]|269|29[17]|592|67[34]|68[03]|69[12])[0-9]{7}|(241|599|67[05]|853|96[15]|975)[0-9]{7,8}|
      (231|385|96[78])[0-9]{7,9}|(84|243|254|353)[0-9]{7,10}|886[0-9]{7,11}|(86|882|972)[0-9]{7,12}|
      62[0-9]{7,13}|974([0-9]{7,9}|[0-9]{11})|(230|267|372)([0-9]{7,8}|[0-9]{10})|
      507([0-9]{7,8}|[0-9]{10,11})|503([0-9]{7,8}|[0-9]{11})|(220|2[46]5|354|423)([0-9]{7}|[0-9]{9})|
      (44|263)([0-9]{7}|[0-9]{9,10})|960([0-9]{7}|[0-9]{10})|90([0-9]{7}|[0-9]{10}|[0-9]{12,13})|
      (501|679)([0-9]{7}|[0-9]{11})|
      (4[57]|2[16]6|22[23678]|23[256]|25[37]|35[067]|37[0134]|389|50[59]|80[08]|9[79]3)[0-9]{8}|
      (3[26]|51|213|224|23[37]|25[08]|26[48]|377|38[27]|591|96[23])[0-9]{8,9}|
      (20|60|85[56]|964|97[06])[0-9]{8,10}|(55|593)[0-9]{8,11}|(92|383|883)[0-9]{8,12}|(81|91)[0-9]{8,13}|
      66([0-9]{8,10}|[0-9]{13})|(229|378|506|850)([0-9]{8}|[0-9]{10})|(57|65|977)([0-9]{8}|[0-9]{10,11})|
      50[24]([0-9]{8}|[0-9]{11})|
      (3[34]|9[34]|21[128]|221|24[0249]|25[156]|26[012]|351|59[046]|979|99[2458])[0-9]{9}|
      (380|881|9[69]6)[0-9]{9,10}|56[0-9]{9,11}|420[0-9]{9,12}|(41|870)([0-9]{9}|[0-9]{12})|
      (1|5[28]|225)[0-9]{10}|54[0-9]{10,11}|(30|234)[0-9]{10,12}|7([0-9]{10}|[0-9]{14})|888[0-9]{11}|
      878[0-9]{12}
    )$' then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether a date of birth (with or without its century), a divider and a serial are a personnummer; a coordination
-- number's day is 60 later. Undivided numbers of 2013 to 2030 are compact timestamps and epoch seconds.
create or replace function scenario_private.is_personnummer(p_born text, p_divider text, p_serial text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  century constant text := left(p_born, -6);
  year constant integer := (substr(right(p_born, 6), 1, 2))::integer;
  month constant integer := (substr(right(p_born, 6), 3, 2))::integer;
  day constant integer := (substr(right(p_born, 6), 5, 2))::integer % 60;
  digits constant text := right(p_born, 6) || p_serial;
  digit integer;
  total integer := 0;
begin
  if right(p_born, 2) in ('00', '60')
    or right(p_born, 2) > '91'
    or month not between 1 and 12
    or day not between 1 and (
      case
        when month <> 2 then 30 + (month + month / 8) % 2
        when year % 4 = 0 and (year > 0 or century in ('', '20')) then 29
        else 28
      end
    )
    or trim(p_divider) = '' and year between 13 and 30 and century in ('', '20')
  then
    return false;
  end if;
  for place in 1..10 loop
    digit := (substr(digits, place, 1))::integer * (1 + place % 2);
    total := total + digit / 10 + digit % 10;
  end loop;
  return total % 10 = 0;
end
$$;

-- Whether eleven digits are a fødselsnummer: both check digits, and a date of birth of a century that its serial
-- allows; a D-number's day is 40 later, an H-number's month.
create or replace function scenario_private.is_fodselsnummer(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits constant integer[] := string_to_array(p_number, null)::integer[];
  day constant integer := case when digits[1] between 4 and 7 then -40 else 0 end + (left(p_number, 2))::integer;
  month constant integer := case when digits[3] >= 4 then -40 else 0 end + (substr(p_number, 3, 2))::integer;
  year constant integer := (substr(p_number, 5, 2))::integer;
  serial constant integer := (substr(p_number, 7, 3))::integer;
begin
  return
    (
      3 * digits[1] + 7 * digits[2] + 6 * digits[3] + digits[4] + 8 * digits[5] + 9 * digits[6]
      + 4 * digits[7] + 5 * digits[8] + 2 * digits[9] + digits[10]
    ) % 11 = 0
    and (
      5 * digits[1] + 4 * digits[2] + 3 * digits[3] + 2 * digits[4] + 7 * digits[5] + 6 * digits[6]
      + 5 * digits[7] + 4 * digits[8] + 3 * digits[9] + 2 * digits[10] + digits[11]
    ) % 11 = 0
    and (serial < 500 or serial < 750 and year >= 54 or year < 40 or serial >= 900)
    and month between 1 and 12
    and day between 1 and case
      when month <> 2 then 30 + (month + month / 8) % 2
      when year % 4 = 0 and (year > 0 or serial >= 500) then 29
      else 28
    end;
end
$$;

-- Whether there is personal data in a text; p_of_phone when its key says that it is a phone number.
create or replace function scenario_private.personal_data_in_text(p_text text, p_of_phone boolean)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- Where a number begins and ends: not inside a word, a UUID, a decimal fraction, a time of day.
  number_start constant text := '(?<![0-9A-Za-z-])(?<![0-9][.:])';
  number_end constant text := '(?![0-9A-Za-z+-])';
  gap constant text := '[-. /()]{0,3}';
  a_date constant text :=
    '(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])'
    '|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9]))';
  plain constant text := regexp_replace(
    scenario_private.plain_text(p_text),
    '(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])',
    '~',
    'g'
  );
  found text[];
begin
  if strpos(plain, '@') > 0 and plain ~ (
    '[^ @/(<\[{,;:=|]@(?![0-9]+\.[0-9]+\.)(?:(?:[0-9A-Za-z_%-]|[^\u0001-\u007f])+\.)+'
    '(?:[Xx][Nn]--[0-9A-Za-z-]+|(?:[A-Za-z]|[^\u0001-\u007f]){2,})(?![0-9A-Za-z])'
  ) then
    return true;
  end if;
  if plain !~ '[0-9][-+. /()0-9]{6,}[0-9]' then
    return false;
  end if;

  if strpos(plain, '+') > 0 or strpos(plain, '00') > 0 then
    for found in
      select regexp_matches(
        plain,
        '(?<![0-9A-Za-z])\+[ (]{0,2}([1-9](?:' || gap || '[0-9]){7,})'
          || '|' || number_start || '00' || gap || '([1-9](?:' || gap || '[0-9]){7,})' || number_end,
        'g'
      )
    loop
      if scenario_private.is_phone_number(coalesce(found[1], found[2])) then
        return true;
      end if;
    end loop;
  end if;
  if strpos(plain, '07') > 0 and plain ~ (number_start || '07[02369](?:' || gap || '[0-9]){7}' || number_end) then
    return true;
  end if;
  if p_of_phone and plain ~ (
    number_start || '(?!' || a_date || ')'
    || '(?:[2-9](?:' || gap || '[0-9]){7}|0[1-9](?:' || gap || '[0-9]){6,8}|4[67](?:' || gap || '[0-9]){7,9})'
    || number_end
  ) then
    return true;
  end if;

  if plain !~ '[0-9]{6}[-+ ]{0,3}[0-9]{4}' then
    return false;
  end if;
  for found in
    select regexp_matches(
      plain, number_start || '((?:1[89]|20)?[0-9]{6})( ?[-+] ?| )?([0-9]{4})' || number_end, 'g'
    )
  loop
    if scenario_private.is_personnummer(found[1], coalesce(found[2], ''), found[3]) then
      return true;
    end if;
  end loop;
  for found in
    select regexp_matches(plain, number_start || '([0-9]{6})(?: ?- ?| )?([0-9]{5})' || number_end, 'g')
  loop
    if scenario_private.is_fodselsnummer(found[1] || found[2]) then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether a number is personal data: the lost leading zero of a fødselsnummer or personnummer is put back.
create or replace function scenario_private.personal_data_in_number(p_number numeric, p_of_phone boolean)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits constant text := (trim_scale(p_number))::text;
  length constant integer := octet_length(digits);
begin
  if digits !~ '^[1-9][0-9]{7,11}$' then
    return false;
  end if;
  return p_of_phone and digits ~ '^(?:[1-9][0-9]{7,8}|4[67][0-9]{8,9})$'
      and digits !~ '^(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])$'
    or length = 9 and scenario_private.is_personnummer('0' || left(digits, 5), '', right(digits, 4))
    or (length = 10 or length = 12 and digits ~ '^(?:1[89]|20)')
      and scenario_private.is_personnummer(left(digits, -4), '', right(digits, 4))
    or length = 10 and substr(digits, 2, 2) between '01' and '12' and scenario_private.is_fodselsnummer('0' || digits)
    or length = 11 and scenario_private.is_fodselsnummer(digits);
end
$$;

-- Whether there is personal data anywhere in a json value. What is beyond 8 KiB is for another constraint to refuse.
create or replace function scenario_private.holds_personal_data(p_metadata jsonb)
returns boolean
language plpgsql
immutable
strict
set search_path = ''
as $$
declare
  as_text constant text := p_metadata::text;
begin
  if octet_length(as_text) > 8192 then
    return false;
  end if;
  -- Most of what the constraint sends here ends here: UUIDs that end in digits, times with other offsets, letters
  -- beyond ASCII. (An escape is not what it stands for: texts with one are looked at in turn.)
  if scenario_private.plain_text(as_text) !~ (
    '[@\\]|(?<![0-9A-Za-z])\+[ (]{0,2}[1-9]|(?<![0-9A-Za-z-])[0-9][-+. /()0-9]{6,}[0-9]'
  ) then
    return false;
  end if;
  return exists (
    with recursive node (value, name, below_phone, of_phone) as (
      select p_metadata, null::text, false, false
      union all
      select
        child.value,
        child.name,
        node.of_phone,
        node.of_phone or coalesce(scenario_private.names_a_phone(child.name), false)
      from node
      cross join lateral (
        select member.value, member.key
        from jsonb_each(case jsonb_typeof(node.value) when 'object' then node.value end) as member
        union all
        select element.value, null
        from jsonb_array_elements(case jsonb_typeof(node.value) when 'array' then node.value end) as element
      ) as child (value, name)
    )
    select
    from node
    where coalesce(scenario_private.personal_data_in_text(node.name, node.below_phone), false)
      or case jsonb_typeof(node.value)
        when 'string' then scenario_private.personal_data_in_text(node.value #>> '{}', node.of_phone)
        when 'number' then scenario_private.personal_data_in_number((node.value #>> '{}')::numeric, node.of_phone)
      end
  );
end
$$;

-- The claim asks before it inserts, so that one row can't lose a batch: in the constraint's own words.
create or replace function scenario_private.is_storable_metadata(p_metadata jsonb)
returns boolean
language sql
immutable
set search_path = ''
as $$
  select
    jsonb_typeof(p_metadata) = 'object'
    and octet_length(p_metadata::text) <= 8192
    and (
      p_metadata::text !~ '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
      or not scenario_private.holds_personal_data(p_metadata)
    )
$$;

revoke all on function
  scenario_private.plain_text(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
from public, anon, authenticated;
grant execute on function
  scenario_private.plain_text(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
to service_role;
