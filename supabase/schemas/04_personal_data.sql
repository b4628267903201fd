-- No personal data in metadata: no personnummer, no fødselsnummer, no e-mail address, no phone number; in values or
-- keys, at any depth, as string or as number. The library refuses them with a better message
-- (scenario_repo/_personal_data.py, which also says what passes because it can't be told from ordinary data); these
-- functions bind every other writer to the same rules. `make generate` writes the marked blocks here and Python's
-- tables from supabase/generators/personal_data.toml; the tests hold both sides to one corpus and to each other.
--
-- No function depends on the server's version: neither PostgreSQL's Unicode tables nor a collation decides anything.

-- Replaces the characters that look like ASCII, or like nothing, by what they look like.
create or replace function scenario_private.plain_letters(p_text text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- The span from firsts[n] to lasts[n] becomes the text number becomes[n]: a letter in turn, again and again.
  -- begin generated: characters
  texts constant text[] := '{
    "", " ", "-", ".", "/", "+", "(", ")", ":", "%", "@", "0123456789", "123456789", "1234", "456789", "23", "1", "0",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "!\"#$%&''()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~", "CR", "C",
    "gHHHh", "IILl", "N", "PQRRR", "Z", "K", "BC", "eEF", "Mo", "i", "Ddeij"
  }'::text[];
  firsts constant integer[] := '{
    1, 9, 14, 127, 133, 134, 160, 168, 173, 175, 178, 180, 183, 184, 185, 728, 768, 890, 900, 903, 1155, 1418, 1470,
    1564, 1632, 1776, 1984, 2406, 2534, 2662, 2790, 2918, 3046, 3174, 3302, 3430, 3558, 3664, 3792, 3872, 4160, 4240,
    4447, 4969, 5120, 5760, 6068, 6112, 6150, 6155, 6160, 6470, 6608, 6618, 6784, 6800, 6832, 6992, 7088, 7232, 7248,
    7616, 8125, 8127, 8141, 8157, 8173, 8189, 8192, 8203, 8208, 8215, 8226, 8228, 8232, 8234, 8239, 8254, 8259, 8260,
    8287, 8288, 8304, 8308, 8314, 8315, 8317, 8318, 8320, 8330, 8331, 8333, 8334, 8400, 8450, 8458, 8464, 8469, 8473,
    8484, 8488, 8490, 8492, 8495, 8499, 8505, 8517, 8722, 8725, 9312, 9332, 9352, 9361, 9398, 9450, 9461, 9471, 10102,
    10112, 10122, 10133, 10240, 11799, 11802, 11834, 11840, 11869, 12288, 12290, 12316, 12336, 12448, 12539, 12644,
    13250, 13255, 13272, 42528, 43216, 43264, 43472, 43504, 43600, 44016, 64297, 65024, 65042, 65043, 65049, 65056,
    65072, 65073, 65077, 65078, 65097, 65106, 65109, 65112, 65113, 65114, 65122, 65123, 65130, 65131, 65279, 65281,
    65377, 65381, 65440, 65507, 65520, 66720, 68160, 68912, 68928, 69216, 69293, 69714, 69734, 69872, 69942, 70096,
    70384, 70736, 70864, 71248, 71360, 71376, 71472, 71904, 72016, 72688, 72784, 73040, 73120, 73184, 73552, 90416,
    92768, 92864, 93008, 93552, 113824, 117974, 118000, 119155, 119808, 120782, 123200, 123632, 124144, 124401, 125264,
    127232, 127234, 127275, 127280, 130032, 917504
  }'::integer[];
  lasts constant integer[] := '{
    8, 13, 31, 132, 133, 159, 160, 168, 173, 175, 179, 180, 183, 184, 185, 733, 879, 890, 901, 903, 1161, 1418, 1470,
    1564, 1641, 1785, 1993, 2415, 2543, 2671, 2799, 2927, 3055, 3183, 3311, 3439, 3567, 3673, 3801, 3881, 4169, 4249,
    4448, 4977, 5120, 5760, 6069, 6121, 6150, 6159, 6169, 6479, 6617, 6618, 6793, 6809, 6911, 7001, 7097, 7241, 7257,
    7679, 8125, 8129, 8143, 8159, 8175, 8190, 8202, 8207, 8213, 8215, 8226, 8231, 8233, 8238, 8239, 8254, 8259, 8260,
    8287, 8303, 8304, 8313, 8314, 8315, 8317, 8318, 8329, 8330, 8331, 8333, 8334, 8447, 8450, 8462, 8467, 8469, 8477,
    8484, 8488, 8490, 8493, 8497, 8500, 8505, 8521, 8722, 8725, 9320, 9340, 9360, 9371, 9449, 9450, 9469, 9471, 10110,
    10120, 10130, 10133, 10240, 11799, 11802, 11835, 11840, 11869, 12288, 12290, 12316, 12336, 12448, 12539, 12644,
    13250, 13255, 13272, 42537, 43225, 43273, 43481, 43513, 43609, 44025, 64297, 65039, 65042, 65043, 65049, 65071,
    65072, 65074, 65077, 65078, 65100, 65106, 65109, 65112, 65113, 65114, 65122, 65123, 65130, 65131, 65279, 65374,
    65377, 65381, 65440, 65507, 65531, 66729, 68163, 68921, 68937, 69224, 69293, 69722, 69743, 69881, 69951, 70105,
    70393, 70745, 70873, 71257, 71369, 71395, 71481, 71913, 72025, 72697, 72793, 73049, 73129, 73193, 73561, 90425,
    92777, 92873, 93017, 93561, 113827, 117999, 118009, 119162, 120483, 120831, 123209, 123641, 124153, 124410, 125273,
    127233, 127242, 127276, 127305, 130041, 921599
  }'::integer[];
  becomes constant integer[] := '{
    1, 2, 1, 1, 2, 1, 2, 2, 1, 2, 16, 2, 4, 2, 17, 2, 1, 2, 2, 4, 1, 3, 3, 1, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 12, 12, 12, 12, 12, 12, 12, 1, 13, 3, 2, 1, 12, 3, 1, 12, 12, 12, 17, 12, 12, 1, 12, 12, 12, 12, 1, 2, 2, 2, 2,
    2, 2, 2, 1, 3, 2, 4, 4, 2, 1, 2, 2, 3, 5, 2, 1, 18, 15, 6, 3, 7, 8, 12, 6, 3, 7, 8, 1, 22, 23, 24, 25, 26, 27, 27,
    28, 29, 30, 31, 32, 33, 3, 5, 13, 13, 13, 4, 19, 18, 13, 18, 13, 13, 13, 6, 2, 3, 3, 3, 3, 3, 2, 4, 3, 3, 3, 4, 1,
    4, 4, 4, 12, 12, 12, 12, 12, 12, 12, 6, 1, 4, 9, 4, 1, 4, 3, 7, 8, 2, 4, 9, 3, 7, 8, 6, 3, 10, 11, 1, 20, 4, 4, 1,
    2, 1, 12, 14, 12, 12, 13, 3, 13, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12, 12,
    12, 12, 12, 12, 1, 19, 12, 1, 19, 12, 12, 12, 12, 12, 12, 18, 13, 21, 19, 12, 1
  }'::integer[];
  -- end generated
begin
  return (
    select coalesce(string_agg(
      case
        when part.code between 32 and 126 or part.place = 0 or part.code > lasts[part.place] then part.letter
        else substr(
          texts[becomes[part.place]],
          1 + (part.code - firsts[part.place]) % greatest(1, length(texts[becomes[part.place]])),
          1
        )
      end,
      '' order by part.ordinal
    ), '')
    from (
      select
        letters.letter,
        ascii(letters.letter) as code,
        width_bucket(ascii(letters.letter), firsts) as place,
        letters.ordinal
      from string_to_table(p_text, null) with ordinality as letters (letter, ordinal)
    ) as part
  );
end
$$;

-- Undoes what makes the same text look otherwise: widths, scripts, invisible characters, percent-encoding.
create or replace function scenario_private.plain_text(p_text text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  plain text := p_text;
  -- begin generated: constants not_plain repeated_percent
  not_plain constant text := '[^ -~\u00c0-\u024f]';
  repeated_percent constant text := '%(?:25)+(?=[0-9A-Fa-f]{2})';
  -- end generated
begin
  if plain ~ not_plain then
    plain := scenario_private.plain_letters(plain);
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
    from string_to_table(regexp_replace(plain, repeated_percent, '%', 'g'), '%')
      with ordinality as piece (rest, ordinal);
  end if;
  return regexp_replace(plain, ' {2,}', ' ', 'g');
end
$$;

-- Lower case for ASCII alone, whatever the collation.
create or replace function scenario_private.in_lower_case(p_text text)
returns text
language sql
immutable
set search_path = ''
as $$
  select translate(p_text, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
$$;

-- Whether a key says that its value is a phone number: phone, mobilNummer, contact-tel; but not telemetry.
create or replace function scenario_private.names_a_phone(p_key text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants hump phone_key
  hump constant text := '([a-z])([A-Z])';
  phone_key constant text :=
    '(?:(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|mob|tel|tlf|tfn|sms|msisdn|cell'
    '|whatsapp)(?:number|nummer|num|nr|no)?(?![a-z])|[℡☎📞])';
  -- end generated
begin
  return scenario_private.in_lower_case(regexp_replace(scenario_private.plain_text(p_key), hump, '\1 \2', 'g'))
    ~ phone_key;
end
$$;

-- Whether the digits after a plus sign, up to the end of any of their groups, have the length that numbers of their
-- country calling code may have: as Google's libphonenumber knows.
create or replace function scenario_private.is_phone_number(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits text := '';
  digit_group text;
  -- begin generated: phone lengths
  possible constant text := '(?x)^(
    (290)([0-9]{4,5})|
    (683)([0-9]{4}|[0-9]{7})|
    (690)([0-9]{4,7})|
    (98)([0-9]{4,7}|[0-9]{10})|
    (352)([0-9]{4,11})|
    (43| 598)([0-9]{4,13})|
    (49)([0-9]{4,15})|
    (500| 682)([0-9]{5})|
    (247)([0-9]{5,6})|
    (82)([0-9]{5,6}|[0-9]{8,14})|
    (676| 677| 678)([0-9]{5}|[0-9]{7})|
    (688)([0-9]{5,7})|
    (685)([0-9]{5,7}|[0-9]{10})|
    (47| 686)([0-9]{5}|[0-9]{8})|
    (386)([0-9]{5,8})|
    (852)([0-9]{5,9}|[0-9]{11})|
    (27| 64)([0-9]{5,10})|
    (61)([0-9]{5,10}|[0-9]{12})|
    (31)([0-9]{5,11})|
    (358| 971)([0-9]{5,12})|
    (298| 299| 672| 687)([0-9]{6})|
    (597)([0-9]{6,7})|
    (421)([0-9]{6,7}|[0-9]{9})|
    (376| 689)([0-9]{6}|[0-9]{8,9})|
    (53)([0-9]{6,8}|[0-9]{10})|
    (63)([0-9]{6}|[0-9]{8,13})|
    (40| 508| 681)([0-9]{6}|[0-9]{9})|
    (252| 355)([0-9]{6,9})|
    (359)([0-9]{6,9}|[0-9]{12})|
    (48| 95| 880)([0-9]{6,10})|
    (46)([0-9]{6,10}|[0-9]{12})|
    (375| 595)([0-9]{6,11})|
    (39| 381)([0-9]{6,12})|
    (238| 239| 246| 248| 269| 291| 297| 592| 673| 674| 680| 691| 692)([0-9]{7})|
    (241| 599| 670| 675| 853| 961| 965| 975)([0-9]{7,8})|
    (230| 267| 372)([0-9]{7,8}|[0-9]{10})|
    (507)([0-9]{7,8}|[0-9]{10,11})|
    (503)([0-9]{7,8}|[0-9]{11})|
    (220| 245| 265| 354| 423)([0-9]{7}|[0-9]{9})|
    (231| 385| 967| 968)([0-9]{7,9})|
    (44| 263)([0-9]{7}|[0-9]{9,10})|
    (974)([0-9]{7,9}|[0-9]{11})|
    (84| 243| 254| 353)([0-9]{7,10})|
    (960)([0-9]{7}|[0-9]{10})|
    (90)([0-9]{7}|[0-9]{10}|[0-9]{12,13})|
    (501| 679)([0-9]{7}|[0-9]{11})|
    (886)([0-9]{7,11})|
    (86| 882| 972)([0-9]{7,12})|
    (62)([0-9]{7,17})|
    (45| 216| 222| 223| 226| 227| 228| 232| 235| 236| 253| 257| 266| 350| 356| 357| 370| 371| 373| 374| 389| 505|
      509| 800| 808| 973| 993)([0-9]{8})|
    (32| 36| 51| 213| 224| 233| 237| 250| 258| 264| 268| 377| 382| 387| 591| 962| 963)([0-9]{8,9})|
    (20| 60| 855| 856| 964| 970| 976)([0-9]{8,10})|
    (229| 378| 506| 850)([0-9]{8}|[0-9]{10})|
    (57| 65| 977)([0-9]{8}|[0-9]{10,11})|
    (66)([0-9]{8,10}|[0-9]{13})|
    (55| 593)([0-9]{8,11})|
    (502| 504)([0-9]{8}|[0-9]{11})|
    (92| 383| 883)([0-9]{8,12})|
    (91)([0-9]{8,13})|
    (81)([0-9]{8,17})|
    (33| 34| 93| 94| 211| 212| 218| 221| 240| 242| 244| 249| 251| 255| 256| 260| 261| 262| 351| 590| 594| 596|
      979| 992| 994| 995| 998)([0-9]{9})|
    (380| 881| 966| 996)([0-9]{9,10})|
    (56)([0-9]{9,11})|
    (41| 870)([0-9]{9}|[0-9]{12})|
    (420)([0-9]{9,12})|
    (1| 52| 58| 225)([0-9]{10})|
    (54)([0-9]{10,11})|
    (30)([0-9]{10,12})|
    (7)([0-9]{10}|[0-9]{14})|
    (234)([0-9]{10,14})|
    (888)([0-9]{11})|
    (878)([0-9]{12})
  )$';
  -- end generated
begin
  foreach digit_group in array regexp_split_to_array(replace(p_number, '(0)', ' '), '[^0-9]+') loop
    digits := digits || digit_group;
    exit when length(digits) > 15;
    if length(digits) >= 8 and digits ~ possible then
      return true;
    end if;
  end loop;
  return false;
end
$$;

-- Whether a date of birth (with or without its century), a divider and a serial are a personnummer or a coordination
-- number, whose day is 60 later, and in whose date 00 is what is not known. Undivided dates of 2013 to 2030 are
-- compact timestamps; of a coordination number's only ten bare digits may be something else: epoch seconds.
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
  day constant integer := (right(p_born, 2))::integer;
  is_coordinated constant boolean := month between 0 and 12 and day between 60 and 91;
  digits constant text := right(p_born, 6) || p_serial;
  digit integer;
  total integer := 0;
begin
  if trim(p_divider) = '' and year between 13 and 30 and century in ('', '20')
    and (not is_coordinated or p_divider || century = '')
  then
    return false;
  end if;
  if not is_coordinated
    and (
      month not between 1 and 12
      or day not between 1 and case
        when month <> 2 then 30 + (month + month / 8) % 2
        when year % 4 = 0 and (year > 0 or century in ('', '20')) then 29
        else 28
      end
    )
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
-- allows. A D-number's day is 40 later, an H-number's month; the tax agency's synthetic persons' month is 80 later.
create or replace function scenario_private.is_fodselsnummer(p_number text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  digits constant integer[] := string_to_array(p_number, null)::integer[];
  day constant integer := case when digits[1] between 4 and 7 then -40 else 0 end + (left(p_number, 2))::integer;
  month constant integer := (substr(p_number, 3, 2))::integer % 40;
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

-- Whether there is an e-mail address in a plain text.
create or replace function scenario_private.holds_an_address(p_plain text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants git_remote email
  git_remote constant text :=
    '(?:(?<![0-9a-z!#$%&''*+/=?^_.@{|}~-])(?<![^\u0001-\u007f])git@[0-9a-z.-]+:[0-9a-z_~][0-9a-z_.~-]*/'
    '|//git@[0-9a-z.-]+[:/])';
  email constant text :=
    '[^ @/(<\[{,;:=|]@(?!v?[0-9]+\.[0-9]+[.-])(?!(?:[0-9]+\.[0-9]+x|(?:[0-9a-z_%-]|[^\u0001-\u007f])+)\.(?:'
    '(?:min|tar)\.)?(?:png|jpe?g|gif|webp|svgz?|avif|bmp|hei[cf]|tiff?|ico|icns|psd|pdf|eps|css|s[ac]ss|less'
    '|[cm]?js|[jt]sx?|vue|json|ya?ml|toml|xml|html?|txt|[ct]sv|log|woff2?|[ot]tf|eot|mp[34]|m4[av]|wav|ogg|webm'
    '|gz|tgz|whl|jar|class|service|socket|timer|mount)(?!(?:[0-9a-z_%-]|[^\u0001-\u007f])|\.[0-9a-z]))(?:'
    '(?:[0-9a-z_%-]|[^\u0001-\u007f])+\.)+(?:xn--[0-9a-z-]+|(?:[a-z]|[^\u0001-\u007f]){2,})(?![0-9a-z])';
  -- end generated
begin
  return regexp_replace(scenario_private.in_lower_case(p_plain), git_remote, '~', 'g') ~ email;
end
$$;

-- Whether a word in a plain text says that the number after it is a phone number: tel:91234567, tlf. 91 23 45 67.
create or replace function scenario_private.announces_a_phone(p_plain text)
returns boolean
language plpgsql
immutable
set search_path = ''
as $$
declare
  -- begin generated: constants hump phone_hint announced_phone
  hump constant text := '([a-z])([A-Z])';
  phone_hint constant text := 'phone|telefon|mob|mms|tel|tlf|tfn|sms|msisdn|cell|whatsapp|callto|wa[.]me|[℡☎📞]';
  announced_phone constant text :=
    '(?:(?<![a-z])(?:(?:cell|mobile?|tele)?phones?|(?:mobil)?telefon|mobile?|mob|tel|tlf|tfn|sms|msisdn|cell'
    '|whatsapp|smsto|mmsto|mms|callto|wa[.]me)(?:[ ._-]?(?:number|nummer|num|nr|no))?(?![a-z])[^0-9a-z]{1,4}(?:'
    '(?:is|er|är) )?|[℡☎📞][^0-9a-z]{0,4})(?<![0-9A-Za-z-])(?<![0-9][.:])(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]'
    '|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ]'
    '(?:19|20)[0-9]{2}(?![0-9])))(?:[2-9](?:[-. /()]{0,3}[0-9]){7}|0[1-9](?:[-. /()]{0,3}[0-9]){6,8}|4[67]'
    '(?:[-. /()]{0,3}[0-9]){7,9})(?![0-9A-Za-z+-])';
  -- end generated
begin
  return scenario_private.in_lower_case(p_plain) ~ phone_hint
    and scenario_private.in_lower_case(regexp_replace(p_plain, hump, '\1 \2', 'g')) ~ announced_phone;
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
  plain text := scenario_private.plain_text(p_text);
  found text[];
  -- begin generated: constants uuid enough_digits enough_identity
  uuid constant text := '(?<![0-9A-Za-z])[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?![0-9A-Za-z])';
  enough_digits constant text := '[0-9][-+. /()0-9]{6,}[0-9]';
  enough_identity constant text := '[0-9]{6}[-+ ]{0,3}[0-9]{4}';
  -- end generated
  -- begin generated: constants international_phone swedish_mobile national_phone personnummer fodselsnummer
  international_phone constant text :=
    '(?:^|[^0-9A-Za-z])\+[ (]{0,2}([1-9](?:[-. /()]{0,3}[0-9]){7,15})(?![0-9])|(?:^|[^0-9A-Za-z.:-]|(?:^'
    '|[^0-9])[.:])00[-. /()]{0,3}([1-9](?:[-. /()]{0,3}[0-9]){7,31})(?![0-9A-Za-z+-])';
  swedish_mobile constant text :=
    '(?<![0-9A-Za-z-])(?<![0-9][.:])07[02369](?:[-. /()]{0,3}[0-9]){7}(?![0-9A-Za-z+-])';
  national_phone constant text :=
    '(?<![0-9A-Za-z-])(?<![0-9][.:])(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]'
    '|3[01])(?![0-9])|(?:0[1-9]|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9])))'
    '(?:[2-9](?:[-. /()]{0,3}[0-9]){7}|0[1-9](?:[-. /()]{0,3}[0-9]){6,8}|4[67](?:[-. /()]{0,3}[0-9]){7,9})'
    '(?![0-9A-Za-z+-])';
  personnummer constant text :=
    '(?:^|[^0-9A-Za-z.:-]|(?:^|[^0-9])[.:])((?:1[89]|20)?[0-9]{6})( ?[-+] ?| )?([0-9]{4})(?![0-9A-Za-z+-])';
  fodselsnummer constant text :=
    '(?:^|[^0-9A-Za-z.:-]|(?:^|[^0-9])[.:])([0-9]{6})(?: ?- ?| )?([0-9]{5})(?![0-9A-Za-z+-])';
  -- end generated
begin
  plain := regexp_replace(plain, uuid, '~', 'g');
  if strpos(plain, '@') > 0 and scenario_private.holds_an_address(plain) then
    return true;
  end if;
  if plain !~ enough_digits then
    return false;
  end if;

  if strpos(plain, '+') > 0 or strpos(plain, '00') > 0 then
    for found in select regexp_matches(plain, international_phone, 'g') loop
      if scenario_private.is_phone_number(coalesce(found[1], found[2])) then
        return true;
      end if;
    end loop;
  end if;
  if strpos(plain, '07') > 0 and plain ~ swedish_mobile
    or p_of_phone and plain ~ national_phone
    or scenario_private.announces_a_phone(plain)
  then
    return true;
  end if;

  if plain !~ enough_identity then
    return false;
  end if;
  for found in select regexp_matches(plain, personnummer, 'g') loop
    if scenario_private.is_personnummer(found[1], coalesce(found[2], ''), found[3]) then
      return true;
    end if;
  end loop;
  for found in select regexp_matches(plain, fodselsnummer, 'g') loop
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
  -- begin generated: constants national_phone_as_number
  national_phone_as_number constant text :=
    '^(?!(?:(?:19|20)[0-9]{2}[-./ ]?(?:0[1-9]|1[0-2])[-./ ]?(?:0[1-9]|[12][0-9]|3[01])(?![0-9])|(?:0[1-9]'
    '|[12][0-9]|3[01])[-./ ](?:0[1-9]|1[0-2])[-./ ](?:19|20)[0-9]{2}(?![0-9])))(?:[1-9][0-9]{7,8}'
    '|4[67][0-9]{8,9})$';
  -- end generated
begin
  if digits !~ '^[1-9][0-9]{7,11}$' then
    return false;
  end if;
  return p_of_phone and digits ~ national_phone_as_number
    or length = 9 and scenario_private.is_personnummer('0' || left(digits, 5), '', right(digits, 4))
    or (length = 10 or length = 12 and digits ~ '^(?:1[89]|20)')
      and scenario_private.is_personnummer(left(digits, -4), '', right(digits, 4))
    or length = 10 and substr(digits, 2, 2) between '01' and '12' and scenario_private.is_fodselsnummer('0' || digits)
    or length = 11 and scenario_private.is_fodselsnummer(digits);
end
$$;

-- Whether there is personal data anywhere in a json value. What is beyond 8 KiB is for another constraint to refuse.
-- Strict: without metadata there is nothing to look at, and the CHECK of every such row would pay for the call.
create or replace function scenario_private.holds_personal_data(p_metadata jsonb)
returns boolean
language plpgsql
immutable
strict
set search_path = ''
as $$
declare
  as_text constant text := p_metadata::text;
  -- begin generated: constants candidate
  candidate constant text := '[@\\]|(?<![0-9A-Za-z])\+[ (]{0,2}[1-9]|(?<![0-9A-Za-z-])[0-9][-+. /()0-9]{6,}[0-9]';
  -- end generated
begin
  if octet_length(as_text) > 8192 then
    return false;
  end if;
  -- Most of what the constraint sends here ends here: UUIDs that end in digits, times with other offsets, letters
  -- beyond ASCII. (An escape is not what it stands for: texts with one are looked at in turn.)
  if scenario_private.plain_text(as_text) !~ candidate then
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

-- The claim asks before it inserts, so that one row can't lose a batch: in the constraint's own words. The first
-- pattern sends on to the function whatever the function could refuse, and costs an ordinary small object little.
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
      p_metadata::text !~
        -- begin generated: worth_a_look
        '[^ -$&-?A-\[\]-~]|\+..[^:]|[-.0-9 /()]{8}[^-+0-9A-Za-z]'
        -- end generated
      or not scenario_private.holds_personal_data(p_metadata)
    )
$$;

revoke all on function
  scenario_private.plain_letters(text),
  scenario_private.plain_text(text),
  scenario_private.in_lower_case(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.holds_an_address(text),
  scenario_private.announces_a_phone(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
from public, anon, authenticated;
grant execute on function
  scenario_private.plain_letters(text),
  scenario_private.plain_text(text),
  scenario_private.in_lower_case(text),
  scenario_private.names_a_phone(text),
  scenario_private.is_phone_number(text),
  scenario_private.is_personnummer(text, text, text),
  scenario_private.is_fodselsnummer(text),
  scenario_private.holds_an_address(text),
  scenario_private.announces_a_phone(text),
  scenario_private.personal_data_in_text(text, boolean),
  scenario_private.personal_data_in_number(numeric, boolean),
  scenario_private.holds_personal_data(jsonb),
  scenario_private.is_storable_metadata(jsonb)
to service_role;
