/**
 * PostgreSQL's wire protocol on a loopback port, served by one PGlite.
 *
 * So that psycopg, psql and the Supabase CLI reach the embedded database.
 * @electric-sql/pglite-socket is not used: in the version that fits this
 * PGlite it leaves SSLRequest unanswered (libpq hangs unless told
 * `sslmode=disable`), interleaves the extended protocol of two clients, shares
 * no lock with the HTTP side, and stops for good after one failed message.
 *
 * All clients share PGlite's one session. A client holds it from the first
 * message of a batch until PostgreSQL is ready and outside a transaction; the
 * names of prepared statements and portals are made unique for each client;
 * when a client leaves, its transaction, settings and statements go too.
 */
import { createServer } from "node:net";

const PROTOCOL_3 = 196608;
const CANCEL_REQUEST = 80877102;
const SSL_REQUEST = 80877103;
const GSSENC_REQUEST = 80877104;
const READY_FOR_QUERY = 0x5a;
const IDLE = 0x49;
const ERROR = 0x45;
const END_OF_BATCH = new Set(["S", "Q"]); // Sync and Query: what ReadyForQuery answers
const COPY_REFUSED =
  "do $$ begin raise exception 'COPY FROM STDIN is not available on PGlite: use INSERT' using errcode = '0A000'; end $$";

function int32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
}

function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(`${part}\0`) : part)));
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body]);
}

function failure(code, text) {
  return message("E", Buffer.from(`SFATAL\0VFATAL\0C${code}\0M${text}\0\0`));
}

/** What a backend says after a start-up packet it accepts. */
function greeting(id) {
  const settings = {
    client_encoding: "UTF8",
    DateStyle: "ISO, MDY",
    integer_datetimes: "on",
    IntervalStyle: "postgres",
    is_superuser: "on",
    server_encoding: "UTF8",
    server_version: "17.0 (PGlite)",
    session_authorization: "postgres",
    standard_conforming_strings: "on",
    TimeZone: "UTC",
  };
  return Buffer.concat([
    message("R", int32(0)),
    ...Object.entries(settings).map(([name, value]) => message("S", name, value)),
    message("K", int32(id), int32(0)),
    message("Z", Buffer.from("I")),
  ]);
}

/** Puts the client's number in front of a named statement or portal. */
function renamed(packet, id) {
  const type = String.fromCharCode(packet[0]);
  const body = packet.subarray(5);
  const upTo = (start) => body.indexOf(0, start) + 1;
  const own = (start, end) => (end - start <= 1 ? body.subarray(start, end) : Buffer.concat([Buffer.from(`c${id}_`), body.subarray(start, end)]));
  let parts;
  if (type === "P" || type === "E") {
    const end = upTo(0);
    parts = [own(0, end), body.subarray(end)];
  } else if (type === "B") {
    const portal = upTo(0);
    const statement = upTo(portal);
    parts = [own(0, portal), own(portal, statement), body.subarray(statement)];
  } else if (type === "D" || type === "C") {
    const end = upTo(1);
    parts = [body.subarray(0, 1), own(1, end), body.subarray(end)];
  } else {
    return packet;
  }
  return message(type, ...parts);
}

/** `copy … from stdin` ends this PGlite for good: an error takes its place. */
function withoutCopy(packet) {
  const type = String.fromCharCode(packet[0]);
  if (type !== "Q" && type !== "P") return packet;
  const start = type === "Q" ? 5 : packet.indexOf(0, 5) + 1;
  const end = packet.indexOf(0, start);
  const text = packet.subarray(start, end).toString();
  if (!/^\s*copy\b[^;]*\bfrom\s+stdin\b/i.test(text)) return packet;
  return message(type, packet.subarray(5, start), COPY_REFUSED, packet.subarray(end + 1));
}

/** The messages of an answer. */
function split(answer) {
  const messages = [];
  for (let start = 0; start < answer.length; ) {
    const end = start + 1 + answer.readInt32BE(start + 1);
    messages.push(answer.subarray(start, end));
    start = end;
  }
  return messages;
}

class Client {
  #buffer = Buffer.alloc(0);
  #started = false;
  #failed = false;
  #status = IDLE;
  #release;
  #tail = Promise.resolve();
  #ended = false;

  constructor(socket, id, server) {
    this.socket = socket;
    this.id = id;
    this.server = server;
    socket.setNoDelay(true);
    socket.on("data", (data) => {
      this.#tail = this.#tail.then(() => this.#receive(data)).catch((error) => this.#fail(error));
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      this.#tail = this.#tail.then(() => this.#leave()).catch(() => {});
    });
  }

  async #receive(data) {
    this.#buffer = Buffer.concat([this.#buffer, data]);
    for (let packet = this.#next(); packet !== undefined && !this.#ended; packet = this.#next()) {
      await (this.#started ? this.#serve(packet) : this.#start(packet));
    }
  }

  #next() {
    const offset = this.#started ? 1 : 0;
    if (this.#buffer.length < offset + 4) return undefined;
    const length = offset + this.#buffer.readInt32BE(offset);
    if (length < offset + 4) throw new Error("malformed message length");
    if (this.#buffer.length < length) return undefined;
    const packet = this.#buffer.subarray(0, length);
    this.#buffer = this.#buffer.subarray(length);
    return packet;
  }

  async #start(packet) {
    const code = packet.readInt32BE(4);
    if (code === SSL_REQUEST || code === GSSENC_REQUEST) {
      this.socket.write("N");
    } else if (code === CANCEL_REQUEST) {
      this.socket.end(); // one thread: there is nothing running that could be cancelled
    } else if (code >> 16 === PROTOCOL_3 >> 16) {
      this.#started = true;
      this.socket.write(greeting(this.id));
    } else {
      this.socket.end(failure("0A000", "unsupported protocol version"));
    }
  }

  async #serve(packet) {
    const type = String.fromCharCode(packet[0]);
    if (type === "X") {
      this.socket.end();
      return;
    }
    this.#release ??= await this.server.exclusive.acquire();
    const endsBatch = END_OF_BATCH.has(type);
    if (this.#failed && !endsBatch) return; // as a backend does: skip to the Sync
    const answer = split(Buffer.from(await this.server.run(withoutCopy(renamed(packet, this.id)))));
    const ready = answer.findLast((part) => part[0] === READY_FOR_QUERY);
    if (ready !== undefined) this.#status = ready[5];
    // PGlite is ready at once after an error in the extended protocol; a backend says so at the Sync
    const said = answer.filter((part) => part[0] !== READY_FOR_QUERY);
    this.#failed = !endsBatch && said.some((part) => part[0] === ERROR);
    if (endsBatch) said.push(message("Z", Buffer.from([this.#status])));
    if (said.length > 0 && this.socket.writable) this.socket.write(Buffer.concat(said));
    if (packet.includes("pgrst")) await this.server.onReload();
    if (endsBatch && this.#status === IDLE) this.#letGo();
  }

  #letGo() {
    this.#release?.();
    this.#release = undefined;
  }

  async #leave() {
    if (this.#ended) return;
    this.#ended = true;
    this.server.clients.delete(this);
    if (!this.#started) return;
    this.#release ??= await this.server.exclusive.acquire();
    try {
      await this.server.run(message("S"));
      await this.server.run(message("Q", "rollback"));
      await this.server.run(message("Q", "discard all"));
    } finally {
      this.#letGo();
    }
  }

  #fail(error) {
    if (this.socket.writable) this.socket.end(failure("XX000", error.message));
  }
}

export class PostgresSocket {
  clients = new Set();
  #server;

  /**
   * `database`: a PGlite; `exclusive`: what the HTTP side waits on as well;
   * `onReload`: called when a client mentions PostgREST's channel, `pgrst`.
   */
  constructor({ database, exclusive, onReload }) {
    this.database = database;
    this.exclusive = exclusive;
    this.onReload = onReload;
  }

  run(packet) {
    return this.database.execProtocolRaw(new Uint8Array(packet));
  }

  /** Listens on a free loopback port and resolves with it. */
  async listen(port = 0) {
    let count = 0;
    this.#server = createServer((socket) => {
      count += 1;
      this.clients.add(new Client(socket, count, this));
    });
    await new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", resolve);
    });
    return this.#server.address().port;
  }

  close() {
    this.#server?.close();
    for (const client of this.clients) client.socket.destroy();
  }
}
