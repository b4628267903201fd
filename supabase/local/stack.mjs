/**
 * A local Supabase without Docker: Supabase Lite embedded in one process.
 *
 *   node stack.mjs [--database-url postgresql://…] [--migrate | --no-migrate]
 *                  [--migrations DIR] [--seed] [--port 0] [--verbose]
 *   node stack.mjs --prepare      (once, to make every start faster)
 *
 * PGlite in memory by default, or a PostgreSQL that is already running. When it
 * is ready it prints one line of JSON with the URL and the keys of this run and
 * nothing else on stdout. It ends on SIGTERM, SIGINT, and when its stdin ends,
 * so that it never outlives the program that started it.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, writeFile } from "node:fs/promises";
import { Console } from "node:console";
import { resolve as absolute } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { PGlite } from "@electric-sql/pglite";
import { serve } from "@hono/node-server";
import { App } from "@supabase/lite";
import { createPgliteConnection } from "@supabase/lite/pglite";
import { createPostgresConnection } from "@supabase/lite/postgres";

import { Exclusive } from "./exclusive.mjs";
import { PostgresSocket } from "./postgres_socket.mjs";

const SUPABASE = new URL("../", import.meta.url);
const LOOPBACK = "127.0.0.1";
const SESSION_WAIT_MS = 5_000;
const SHUTDOWN_MS = 1_500;

const { values: options } = parseArgs({
  options: {
    "database-url": { type: "string" },
    migrate: { type: "boolean" },
    "no-migrate": { type: "boolean" },
    migrations: { type: "string" },
    seed: { type: "boolean", default: false },
    port: { type: "string", default: "0" },
    prepare: { type: "boolean", default: false },
    verbose: { type: "boolean", default: false },
  },
});
// by the environment, a password in the URL doesn't show in the list of processes
const databaseUrl = options["database-url"] ?? process.env.EMBEDDED_STACK_DATABASE_URL;
const migrate = options.migrate ?? (options["no-migrate"] ? false : databaseUrl === undefined);

const MIGRATIONS =
  options.migrations === undefined
    ? new URL("migrations/", SUPABASE)
    : pathToFileURL(`${absolute(options.migrations)}/`);

// stdout carries the one line that a program reads. Lite prints every refused
// statement, row values included, so it is quiet unless asked.
const stderr = new Console(process.stderr, process.stderr);
for (const level of ["log", "info", "debug", "warn", "error"]) {
  console[level] = options.verbose ? stderr.error.bind(stderr) : () => {};
}
process.env.DO_NOT_TRACK = "1";
process.env.LITE_TELEMETRY = "0";

const keys = {
  publishable: `sb_publishable_${randomBytes(24).toString("base64url")}`,
  secret: `sb_secret_${randomBytes(24).toString("base64url")}`,
  jwt: randomBytes(32).toString("base64url"),
};

/** What a Supabase database has before the first migration. A given one that has `auth` is taken to have it all. */
const PLATFORM = `
do $$
declare
  wanted record;
begin
  for wanted in
    select * from (values
      ('anon', 'nologin'),
      ('authenticated', 'nologin'),
      ('service_role', 'nologin bypassrls'),
      ('authenticator', 'nologin noinherit')
    ) as roles (name, attributes)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = wanted.name) then
      execute format('create role %I %s', wanted.name, wanted.attributes);
    end if;
  end loop;
end
$$;
create schema if not exists extensions;
create schema if not exists auth;
grant usage on schema public, extensions, auth to anon, authenticated, service_role;
`;

/** Columns of the platform's auth.users that Lite leaves out and a seed may name. */
const AUTH_COLUMNS = `
alter table auth.users
  add column if not exists instance_id uuid,
  add column if not exists is_super_admin boolean;
`;

/** As on the platform: the claims may come in one JSON setting or one by one. */
const AUTH_FUNCTIONS = {
  uid: `create or replace function auth.uid() returns uuid language sql stable as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.sub', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
    )::uuid
  $$`,
  role: `create or replace function auth.role() returns text language sql stable as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.role', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'
    )
  $$`,
  email: `create or replace function auth.email() returns text language sql stable as $$
    select coalesce(
      nullif(current_setting('request.jwt.claim.email', true), ''),
      nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'email'
    )
  $$`,
  jwt: `create or replace function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
  $$`,
};

/** Every privilege outside the system schemas, in one text. */
const PRIVILEGES = `
select coalesce(string_agg(entry, E'\\n' order by entry), '') as privileges
from (
  select format('schema %I %s', nspname, nspacl) as entry
  from pg_catalog.pg_namespace where nspname !~ '^(pg_|information_schema)'
  union all
  select format('relation %I.%I %s', nspname, relname, relacl)
  from pg_catalog.pg_class join pg_catalog.pg_namespace n on n.oid = relnamespace
  where nspname !~ '^(pg_|information_schema)' and relkind in ('r', 'p', 'v', 'm', 'S', 'f')
  union all
  select format('function %I.%I %s', nspname, proname, proacl)
  from pg_catalog.pg_proc join pg_catalog.pg_namespace n on n.oid = pronamespace
  where nspname !~ '^(pg_|information_schema)'
  union all
  select format('default %s %s %s %s', defaclrole, defaclnamespace, defaclobjtype, defaclacl)
  from pg_catalog.pg_default_acl
) as entries`;

/** PostgREST's HTTP status for an SQLSTATE; first match wins. 42501 is left to Lite. */
const STATUS_BY_SQLSTATE = [
  [/^2350[35]$/, 409],
  [/^25006$/, 405],
  [/^53400$/, 500],
  [/^57P01$/, 503],
  [/^P0001$/, 400],
  [/^42883$/, 404],
  [/^42P01$/, 404],
  [/^42P17$/, 500],
  [/^(08|53)/, 503],
  [/^(0L|0P|28)/, 403],
  [/^(09|25|2D|38|39|3B|40|54|55|57|58|F0|HV|P0|XX)/, 500],
  [/^[0-9A-Z]{5}$/, 400],
];
const LEFT_TO_LITE = /^(42501|PT...|PGRST)$/;

const restRequest = new AsyncLocalStorage();

/**
 * Lite answers 500 "SUP" to CHECK violations, raised exceptions, serialization
 * failures and timeouts. PostgREST's own answer goes through the door that
 * `raise sqlstate 'PGRST'` uses.
 */
function asPostgrestError(error) {
  const { code, message, detail, hint } = error ?? {};
  if (restRequest.getStore() !== true || typeof code !== "string" || LEFT_TO_LITE.test(code)) return error;
  const status = STATUS_BY_SQLSTATE.find(([pattern]) => pattern.test(code))?.[1];
  if (status === undefined) return error;
  return {
    code: "PGRST",
    message: JSON.stringify({ code, message, details: detail ?? null, hint: hint ?? null }),
    detail: JSON.stringify({ status, headers: { "Proxy-Status": `PostgREST; error=${code}` } }),
  };
}

// Lite encodes a jsonb argument itself; encoding it again would make it a string.
const asSent = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/**
 * A PGlite fresh from its initdb, as files. Initdb in WebAssembly takes seconds,
 * loading what it made takes tenths: the first start leaves it in node_modules.
 */
async function freshDatabase() {
  const manifest = new URL("node_modules/@electric-sql/pglite/package.json", import.meta.url);
  const { version } = JSON.parse(await readFile(manifest, "utf8"));
  const folder = new URL("node_modules/.cache/", import.meta.url);
  const file = new URL(`pglite-${version}.tar`, folder);
  const cached = await readFile(file).catch(() => undefined);
  if (cached !== undefined) return new Blob([cached]);
  const pglite = await PGlite.create();
  const dump = await pglite.dumpDataDir("none");
  await pglite.close();
  const bytes = new Uint8Array(await dump.arrayBuffer());
  const own = new URL(`pglite-${version}.${process.pid}.tar`, folder);
  await mkdir(folder, { recursive: true })
    .then(() => writeFile(own, bytes))
    .then(() => rename(own, file))
    .catch((error) => stderr.error(`The next start will be as slow: ${error.message}`));
  return new Blob([bytes]);
}

/** Timestamps as JSON has them on the platform: 2026-01-31T12:00:00.5+00:00. */
const asIso = (text) =>
  text.replace(/^(\d+-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)?(:\d\d)?$/, (_, day, time, zone, minutes) =>
    zone === undefined ? `${day}T${time}` : `${day}T${time}${zone}${minutes ?? ":00"}`,
  );
const JSON_OID = 114;
const JSONB_OID = 3802;
const TIMESTAMP = 1114;
const TIMESTAMPTZ = 1184;

/** A connection of Lite, and how to run a script and a query on its database. */
async function connect() {
  if (databaseUrl === undefined) {
    const connection = await createPgliteConnection({
      pgliteOptions: {
        loadDataDir: await freshDatabase(),
        parsers: { [TIMESTAMP]: asIso, [TIMESTAMPTZ]: asIso },
        serializers: { [JSON_OID]: asSent, [JSONB_OID]: asSent },
      },
    });
    return {
      connection,
      script: (text) => connection.driver.exec(text),
      rows: async (text) => (await connection.driver.query(text)).rows,
    };
  }
  const time = (oid) => ({ to: oid, from: [oid], serialize: (text) => text, parse: asIso });
  const json = (oid) => ({ to: oid, from: [oid], serialize: asSent, parse: (text) => JSON.parse(text) });
  const connection = createPostgresConnection({
    url: databaseUrl,
    postgresOptions: {
      onnotice: () => {},
      connection: { application_name: "scenario_repo local stack", statement_timeout: 8000, lock_timeout: 8000 },
      types: {
        json: json(JSON_OID),
        jsonb: json(JSONB_OID),
        timestamp: time(TIMESTAMP),
        timestamptz: time(TIMESTAMPTZ),
      },
    },
  });
  return {
    connection,
    // migrations may take longer than a request may
    script: (text) => connection.driver.unsafe(`set statement_timeout = 0;\n${text};\nset statement_timeout = 8000`),
    rows: (text) => connection.driver.unsafe(text),
  };
}

async function maxRows() {
  const config = await readFile(new URL("config.toml", SUPABASE), "utf8").catch(() => "");
  return Number(/^\s*max_rows\s*=\s*(\d+)/m.exec(config)?.[1] ?? 1000);
}

async function sqlFiles(folder) {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith(".sql")).sort().map((name) => new URL(name, folder));
}

async function applyFile(database, file) {
  const text = await readFile(file, "utf8");
  try {
    await database.script(text);
  } catch (error) {
    const line = error.position ? `, line ${text.slice(0, Number(error.position)).split("\n").length}` : "";
    const name = decodeURIComponent(file.pathname.split("/").slice(-2).join("/"));
    throw new Error(`${name}${databaseUrl === undefined ? line : ""}: ${error.code ?? ""} ${error.message}`);
  }
}

async function authFunctions(database) {
  const rows = await database.rows(`
    select proname as name, pg_catalog.pg_get_functiondef(p.oid) as definition
    from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = pronamespace
    where nspname = 'auth' and proname in ('uid', 'role', 'email', 'jwt') and pronargs = 0`);
  return new Map(rows.map(({ name, definition }) => [name, definition]));
}

/** Lite's auth tables. What the database already had keeps its own definition. */
async function provisionAuth(app, database) {
  const before = await authFunctions(database);
  await app.ensureSystemSchema();
  const after = await authFunctions(database);
  for (const [name, definition] of Object.entries(AUTH_FUNCTIONS)) {
    if (before.has(name) && before.get(name) === after.get(name)) continue;
    await database.script(before.get(name) ?? definition);
  }
}

/** Lite would grant everything on every table to every role before its first request. */
function keepGrants(connection) {
  if (connection.rlsState !== "unknown") {
    throw new Error("this version of @supabase/lite has no rlsState: its grants can't be switched off");
  }
  connection.rlsState = "active";
}

function listen(fetch) {
  return new Promise((resolve, reject) => {
    const server = serve({ fetch, hostname: LOOPBACK, port: Number(options.port) }, ({ port }) =>
      resolve({ server, port }),
    );
    server.once("error", reject);
  });
}

const busy = () =>
  Response.json(
    {
      code: "55P03",
      message: "the embedded database is held by a PostgreSQL client in an open transaction: commit it, or connect with autocommit",
      details: null,
      hint: null,
    },
    { status: 503 },
  );

async function start() {
  const database = await connect();
  const { connection } = database;
  keepGrants(connection);
  connection.normalizeDbError = asPostgrestError;

  const app = new App({
    connection,
    api: { max_rows: await maxRows(), pg_safe_update: true },
    auth: {
      enabled: true,
      jwt_secret: keys.jwt,
      publishable_key: keys.publishable,
      secret_key: keys.secret,
      email: { enable_confirmations: false },
    },
    db: { migrations: { enabled: false } },
    storage: { enabled: false },
    studio: { enabled: false },
    options: { server: { admin: false, disableStudio: true } },
  });

  const [{ provided }] = await database.rows("select to_regnamespace('auth') is not null as provided");
  if (!provided) await database.script(PLATFORM);
  await provisionAuth(app, database);
  if (!provided) await database.script(AUTH_COLUMNS);
  if (migrate) for (const file of await sqlFiles(MIGRATIONS)) await applyFile(database, file);
  if (options.seed) {
    await applyFile(database, new URL("seed.sql", SUPABASE));
    await database.script("discard temporary");
  }
  await connection.clearSchemaCache();

  const exclusive = databaseUrl === undefined ? new Exclusive() : undefined;
  const answer = async (request, environment) => {
    const peerAddress = environment?.incoming.socket.remoteAddress ?? null;
    const isRest = new URL(request.url).pathname.startsWith("/rest/v1");
    const run = () => restRequest.run(isRest, () => app.fetch(request, { peerAddress }));
    if (exclusive === undefined) return run();
    let release;
    try {
      release = await exclusive.acquire(SESSION_WAIT_MS);
    } catch {
      return busy();
    }
    try {
      return await run();
    } finally {
      release();
    }
  };

  const before = await database.rows(PRIVILEGES);
  const warmUp = new Request(`http://${LOOPBACK}/rest/v1/`, { headers: { apikey: keys.secret } });
  const warm = await answer(warmUp);
  if (!warm.ok) throw new Error(`the first request was answered ${warm.status}: ${await warm.text()}`);
  const after = await database.rows(PRIVILEGES);
  if (before[0].privileges !== after[0].privileges) throw new Error("@supabase/lite changed grants when it started");

  const reload = () => connection.clearSchemaCache();
  let socket;
  let served = databaseUrl;
  if (exclusive === undefined) {
    await connection.driver.listen("pgrst", reload);
  } else {
    socket = new PostgresSocket({ database: connection.driver, exclusive, onReload: reload });
    served = `postgresql://postgres:postgres@${LOOPBACK}:${await socket.listen()}/postgres`;
  }
  const { server, port } = await listen(answer);
  return {
    ready: {
      url: `http://${LOOPBACK}:${port}`,
      publishable_key: keys.publishable,
      secret_key: keys.secret,
      jwt_secret: keys.jwt,
      database_url: served,
    },
    async stop() {
      socket?.close();
      server.close();
      server.closeAllConnections();
      await (exclusive === undefined ? connection.driver.end({ timeout: 1 }) : connection.close());
    },
  };
}

if (options.prepare) {
  await freshDatabase();
  process.exit(0);
}

let stack;
let stopping = false;

async function stop(code = 0) {
  if (stopping) return;
  stopping = true;
  setTimeout(() => process.exit(code), SHUTDOWN_MS).unref();
  await stack?.stop().catch(() => {});
  process.exit(code);
}

process.on("SIGTERM", () => stop());
process.on("SIGINT", () => stop());
process.stdin.on("end", () => stop());
process.stdin.on("error", () => stop());
process.stdin.resume();

try {
  stack = await start();
  if (!stopping) process.stdout.write(`${JSON.stringify(stack.ready)}\n`);
} catch (error) {
  stderr.error(`The local stack could not start: ${error.message}`);
  if (options.verbose) stderr.error(error);
  await stop(1);
}
