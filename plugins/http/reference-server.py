#!/usr/bin/env python3
"""A complete store for the http plugin of varpd, over SQLite. openapi.yaml describes the interface.

    reference-server.py --database net.db --port 8080 [--token-file FILE] [--cert PEM --key PEM]
    curl -X PUT -d '{"ip": "192.0.2.1", "port": 4789, "arp": "10.0.0.2"}' \\
        localhost:8080/v1/networks/23/macs/de-ad-be-ef-00-01

Python, since its standard library has an HTTP server and SQLite on every Debian; Node 20 has no SQLite. The server checks
that an entry is a JSON object with valid addresses for its index, and leaves the rest to varpd.
"""
import argparse, hashlib, hmac, ipaddress, json, re, socket, sqlite3, ssl, threading, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VTEP = "json_object('ip', json_extract(entry, '$.ip'), 'port', json_extract(entry, '$.port'))"
# vteps: the number of entries with each VTEP. Every host asks for the VTEPs, and a network may have a million entries.
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (vnetid INTEGER, mac TEXT, entry TEXT, PRIMARY KEY (vnetid, mac)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ips (vnetid INTEGER, ip TEXT, mac TEXT, PRIMARY KEY (vnetid, ip)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (revision INTEGER PRIMARY KEY AUTOINCREMENT, vnetid INTEGER, mac TEXT, entry TEXT);
CREATE TABLE IF NOT EXISTS vteps (vnetid INTEGER, vtep TEXT, entries INTEGER, PRIMARY KEY (vnetid, vtep)) WITHOUT ROWID;
INSERT INTO vteps SELECT vnetid, {VTEP}, count(*) FROM entries WHERE NOT EXISTS (SELECT * FROM vteps) GROUP BY 1, 2;
CREATE INDEX IF NOT EXISTS vteps_gone ON vteps (entries) WHERE entries = 0;
CREATE INDEX IF NOT EXISTS ips_of ON ips (vnetid, mac);
CREATE INDEX IF NOT EXISTS changes_of ON changes (vnetid, revision);
"""
changed = threading.Condition()  # guards every write, and wakes the streams


class Problem(Exception):
    """An answer of RFC 9457. `code` is what varpd looks at."""
    def __init__(self, status, code, title):
        self.status, self.body = status, {"type": "about:blank", "status": status, "title": title, "code": code}


UNKNOWN = Problem(404, "unknown", "The store does not know it")


def canonical_mac(text):
    groups = re.split("[:-]", urllib.parse.unquote(text))
    if len(groups) != 6 or not all(re.fullmatch("[0-9a-fA-F]{1,2}", group) for group in groups):
        raise Problem(400, "invalid", "Not a MAC address")
    return ":".join(group.rjust(2, "0").lower() for group in groups)


def canonical_ip(text):
    try:
        return str(ipaddress.ip_address(urllib.parse.unquote(text)))
    except ValueError:
        raise Problem(400, "invalid", "Not an IP address")


def addresses(entry):
    listed = [entry.get(name, []) for name in ("arp", "ndp")]
    for value in [one for each in listed for one in (each if isinstance(each, list) else [each])]:
        try:
            yield str(ipaddress.ip_address(value))
        except ValueError:
            pass  # varpd refuses the entry and says where


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ROUTES = [("", "network"), ("/entries", "snapshot"), ("/changes", "stream"), ("/macs/([^/]+)", "mac"),
              ("/macs/([^/]+)/dhcp-server", "server"), ("/ips/([^/]+)", "address")]

    def handle_one(self):
        self.db = sqlite3.connect(options.database, isolation_level=None, timeout=10)
        self.wants = f"Bearer {options.token}"
        try:
            self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if options.token and not hmac.compare_digest(self.headers.get("Authorization", ""), self.wants):
                raise Problem(401, "token", "The token is absent or not accepted")
            for pattern, name in self.ROUTES:
                found = re.fullmatch(r"/v1/networks/(\d+)" + pattern, self.path)
                action = found and getattr(self, f"{self.command.lower()}_{name}", None)
                if action:
                    self.vnetid = int(found[1])
                    if options.networks and self.vnetid not in options.networks:
                        raise UNKNOWN
                    return action(*found.groups()[1:])
            raise Problem(404, "no-such-path", "The interface has no such path")
        except Problem as problem:
            self.answer(problem.body, problem.status, "application/problem+json")
        finally:
            self.db.close()

    do_GET = do_PUT = do_DELETE = handle_one

    def rows(self, sql, *values):
        return self.db.execute(sql, values).fetchall()

    def revision(self):
        return (self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'changes'") or [(0,)])[0][0]

    def answer(self, value, status=200, kind="application/json"):
        body = json.dumps(value).encode()
        tag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
        if status == 200 and self.headers.get("If-None-Match") == tag:
            status, body = 304, b""
        self.send_response(status)
        if status in (200, 304):
            self.send_header("ETag", tag)
            self.send_header("Cache-Control", options.cache_control)
        if status != 304:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def entry(self, mac):
        for (entry,) in self.rows("SELECT entry FROM entries WHERE vnetid = ? AND mac = ?", self.vnetid, mac):
            return json.loads(entry)
        raise UNKNOWN

    def get_network(self):
        rows = self.rows("SELECT vtep, entries FROM vteps WHERE vnetid = ?", self.vnetid)
        self.answer({"entries": sum(entries for _, entries in rows), "vteps": [json.loads(vtep) for vtep, _ in rows]})

    def get_mac(self, mac):
        self.answer(self.entry(canonical_mac(mac)))

    def get_server(self, mac):
        server = self.entry(canonical_mac(mac)).get("dhcp-proxy")
        if server is None:
            raise UNKNOWN
        self.answer({"mac": server})

    def get_address(self, ip):
        for (mac,) in self.rows("SELECT mac FROM ips WHERE vnetid = ? AND ip = ?", self.vnetid, canonical_ip(ip)):
            return self.answer({"mac": mac})
        raise UNKNOWN

    def put_mac(self, mac):
        try:
            entry = json.loads(self.body)
        except ValueError:
            raise Problem(400, "invalid", "Not JSON")
        if not isinstance(entry, dict):
            raise Problem(400, "invalid", "Not an object")
        self.change(canonical_mac(mac), entry)

    def delete_mac(self, mac):
        self.entry(canonical_mac(mac))
        self.change(canonical_mac(mac), None)

    def change(self, mac, entry):
        text = None if entry is None else json.dumps(entry)
        with changed:
            self.db.execute("BEGIN IMMEDIATE")
            self.count(mac, -1)
            self.rows("DELETE FROM ips WHERE vnetid = ? AND mac = ?", self.vnetid, mac)
            self.rows("DELETE FROM entries WHERE vnetid = ? AND mac = ?", self.vnetid, mac)
            if entry is not None:
                self.rows("INSERT INTO entries VALUES (?, ?, ?)", self.vnetid, mac, text)
                for ip in addresses(entry):
                    self.rows("REPLACE INTO ips VALUES (?, ?, ?)", self.vnetid, ip, mac)
            self.count(mac, 1)
            self.rows("DELETE FROM vteps WHERE entries = 0")
            self.rows("INSERT INTO changes (vnetid, mac, entry) VALUES (?, ?, ?)", self.vnetid, mac, text)
            revision = self.revision()
            self.rows("DELETE FROM changes WHERE revision <= ?", revision - options.history)
            self.db.execute("COMMIT")
            changed.notify_all()
        self.answer({"revision": str(revision)})

    def count(self, mac, number):
        self.rows(f"INSERT INTO vteps SELECT vnetid, {VTEP}, ? FROM entries WHERE vnetid = ? AND mac = ?"
                  " ON CONFLICT DO UPDATE SET entries = entries + excluded.entries", number, self.vnetid, mac)

    def begin(self, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def get_snapshot(self):
        """One transaction, so that the entries are those of one revision."""
        self.db.execute("BEGIN")
        revision, count, lines = self.revision(), 0, []
        self.begin("application/x-ndjson")
        for mac, entry in self.db.execute("SELECT mac, entry FROM entries WHERE vnetid = ?", (self.vnetid,)):
            lines.append(f'{{"{mac}": {entry}}}\n')
            count += 1
            if len(lines) == 500:
                self.chunk("".join(lines))
                lines = []
        lines.append(json.dumps({"revision": str(revision), "entries": count}) + "\n")
        self.chunk("".join(lines))
        self.wfile.write(b"0\r\n\r\n")

    def get_stream(self):
        given = self.headers.get("Last-Event-ID")
        cursor = int(given) if given and given.isdecimal() else None
        if given and (cursor is None or not self.revision() - options.history <= cursor <= self.revision()):
            raise Problem(410, "cursor-too-old", "The changes since this cursor are not kept")
        self.begin("text/event-stream")
        cursor = self.revision() if cursor is None else cursor
        self.chunk(f"event: cursor\nid: {cursor}\ndata:\n\n")
        while True:
            with changed:
                until = self.revision()
                if until == cursor:
                    changed.wait(options.keep_alive)
                    until = self.revision()
            rows = self.rows("SELECT revision, mac, entry FROM changes WHERE vnetid = ? AND revision > ? AND revision <= ?"
                             " ORDER BY revision", self.vnetid, cursor, until)
            events = [f'id: {revision}\ndata: {{"{mac}": {entry or "null"}}}\n\n' for revision, mac, entry in rows]
            # Other networks move the revision as well: the cursor of a quiet one must not get too old.
            self.chunk("".join(events) + f"event: cursor\nid: {until}\ndata:\n\n")
            cursor = until

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, *_):
        pass  # a client has gone


parser = argparse.ArgumentParser()
parser.add_argument("--database", required=True)
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=0)
parser.add_argument("--token-file")
parser.add_argument("--cert")
parser.add_argument("--key")
parser.add_argument("--client-ca", help="PEM: clients need a certificate of this authority")
parser.add_argument("--networks", type=lambda text: {int(one) for one in text.split(",")}, help="the others are unknown")
parser.add_argument("--history", type=int, default=100_000, help="changes that are kept for streams that come back")
parser.add_argument("--keep-alive", type=float, default=15, help="seconds between two events of a quiet stream")
parser.add_argument("--cache-control", default="max-age=30, stale-if-error=86400")
options = parser.parse_args()
options.token = open(options.token_file).read().strip() if options.token_file else None
database = sqlite3.connect(options.database)
database.execute("PRAGMA journal_mode = WAL")
database.executescript(SCHEMA)
Server.address_family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
server = Server((options.host, options.port), Handler)
if options.cert:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=options.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED if options.client_ca else ssl.CERT_NONE
    context.load_cert_chain(options.cert, options.key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(f"listening on port {server.server_address[1]}", flush=True)
server.serve_forever()
