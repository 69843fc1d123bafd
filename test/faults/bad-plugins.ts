// Plugins that do everything that a program can do wrong. Each is a file of its own, with the overlay's name for it.
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export interface BadPlugin {
  readonly name: string;
  /** Completes the sentence "a plugin that ...". */
  readonly does: string;
  /** Code of the module, before its default export. */
  readonly head?: string;
  /** Bodies of its methods. */
  readonly start?: string;
  readonly resolve?: string;
  readonly stop?: string;
  /** The sentence of its overlay, or of the command that creates it, has this. */
  readonly says: RegExp;
  /** create-overlay fails: the plugin never comes up. */
  readonly isRefused?: boolean;
  /** The overlay stays well: the harm is only to others, and is prevented. */
  readonly isWell?: boolean;
  /** With Landlock of this version, its overlay stays well to the end: its process, or the spawner, has not been harmed. */
  readonly staysWellSince?: number;
  /** It can be prevented by Landlock of this version alone. */
  readonly since?: number;
  /** `npm test` has it too. */
  readonly quick?: boolean;
}

const DROP = `return { kind: 'drop', reason: 'nobody', ttlMs: 1 };`;
const ROWS = 1_000_000;

export const BAD_PLUGINS: readonly BadPlugin[] = [
  // Errors
  { name: 'throws', does: 'throws', resolve: `throw new Error('out of order')`, says: /out of order/ },
  { name: 'throws-nothing', does: 'throws undefined', resolve: 'throw undefined', says: /throws-nothing/ },
  {
    name: 'throws-bare',
    does: 'throws an object without a prototype',
    resolve: 'throw Object.create(null)',
    says: /throws-bare/,
    quick: true,
  },
  {
    name: 'throws-trap',
    does: 'throws an error whose message throws',
    resolve: `throw Object.defineProperty(new Error(''), 'message', { get() { throw new Error('trap'); } })`,
    says: /throws-trap/,
  },
  {
    name: 'throws-ring',
    does: 'throws an error that is its own cause',
    resolve: `const error = new Error('round'); error.cause = error; throw error`,
    says: /round/,
  },
  {
    name: 'rejects',
    does: 'rejects',
    resolve: `return Promise.reject(new Error('out of order'))`,
    says: /out of order/,
  },
  {
    name: 'never-answers',
    does: 'never answers',
    resolve: 'return new Promise(() => {})',
    says: /no answer within/,
  },
  {
    name: 'throws-later',
    does: 'throws out of a timer',
    resolve: `setTimeout(() => { throw new Error('too late') }, 5); return new Promise(() => {})`,
    says: /too late/,
    quick: true,
  },
  {
    name: 'throws-microtask',
    does: 'throws in a microtask',
    resolve: `queueMicrotask(() => { throw new Error('in between') }); return new Promise(() => {})`,
    says: /in between/,
  },
  {
    name: 'rejects-later',
    does: 'leaves a rejection unhandled',
    resolve: `void Promise.reject(new Error('forgotten')); return new Promise(() => {})`,
    says: /forgotten/,
  },
  {
    name: 'client-fails',
    does: 'has a client at module level that emits an error without a listener',
    head: `import { EventEmitter } from 'node:events'; const client = new EventEmitter();`,
    resolve: `setImmediate(() => client.emit('error', new Error('connection lost'))); return new Promise(() => {})`,
    says: /connection lost/,
  },
  {
    name: 'abort-listener',
    does: 'throws in a listener of the signal of a call',
    resolve: `signal.addEventListener('abort', () => { throw new Error('at the abort') }); return new Promise(() => {})`,
    says: /at the abort|no answer within/,
  },
  // Nonsense
  {
    name: 'bad-address',
    does: 'answers an address that is none',
    resolve: `return { kind: 'target', to: { ip: '999.1.1.1', port: -1 } }`,
    says: /expected/,
  },
  {
    name: 'no-data',
    does: 'answers functions and rings',
    resolve: `const answer = { kind: 'target', to: () => 7 }; answer.self = answer; return answer`,
    says: /no-data/,
  },
  {
    name: 'huge-answer',
    does: 'answers 64 MiB of text',
    resolve: `return { kind: 'drop', reason: 'x'.repeat(64 << 20) }`,
    says: /huge-answer/,
  },
  // Its own end
  { name: 'exits', does: 'exits', resolve: 'process.exit(7)', says: /exit|ended/, quick: true },
  { name: 'aborts', does: 'aborts', resolve: 'process.abort()', says: /SIGABRT|ended/ },
  {
    name: 'kills-itself',
    does: 'kills itself',
    resolve: `process.kill(process.pid, 'SIGKILL'); ${DROP}`,
    says: /SIGKILL|ended/,
  },
  {
    name: 'exits-import',
    does: 'exits at import',
    head: 'process.exit(3);',
    says: /exit|ended/,
    isRefused: true,
  },
  {
    name: 'throws-import',
    does: 'throws at import',
    head: `throw new Error('no such table');`,
    says: /no such table/,
    isRefused: true,
    quick: true,
  },
  {
    name: 'hangs-import',
    does: 'never finishes its import',
    head: 'await new Promise((resolve) => setTimeout(resolve, 1e8));',
    says: /hangs-import/,
    isRefused: true,
  },
  {
    name: 'exits-start',
    does: 'exits while it starts',
    start: 'process.exit(4)',
    says: /exit|ended/,
    isRefused: true,
  },
  // Time and memory
  {
    name: 'blocks-shortly',
    does: 'blocks 900 ms for each question, within the deadline',
    resolve: `const end = Date.now() + 900; while (Date.now() < end); ${DROP}`,
    says: /blocks-shortly/,
    isWell: true,
  },
  {
    name: 'blocks',
    does: 'blocks for ever',
    resolve: 'for (;;);',
    says: /block|not answer/,
    quick: true,
  },
  {
    name: 'microtasks',
    does: 'makes microtasks without end',
    resolve: 'const again = () => Promise.resolve().then(again); return again()',
    says: /block|not answer|memory/,
  },
  {
    name: 'fills-heap',
    does: 'fills its heap',
    head: 'const kept = [];',
    resolve: 'for (;;) kept.push(new Array(10_000).fill(kept.length));',
    says: /memory|SIGABRT|ended|block/,
  },
  {
    name: 'fills-memory',
    does: 'fills memory outside of its heap',
    head: 'const kept = [];',
    resolve: `setInterval(() => kept.push(Buffer.alloc(64 << 20, 1)), 20); ${DROP}`,
    says: /memory|MiB/,
  },
  {
    name: 'forks',
    does: 'starts processes without end',
    head: `import { spawn } from 'node:child_process';`,
    resolve: `setInterval(() => { for (let n = 0; n < 20; n++) spawn('sleep', ['60']).on('error', () => {}); }, 20); ${DROP}`,
    says: /forks/,
    isWell: true,
  },
  {
    name: 'opens',
    does: 'opens files without end',
    head: `import { openSync } from 'node:fs';`,
    resolve: `for (;;) openSync('/dev/null')`,
    says: /EMFILE|too many open files/i,
  },
  // Too much
  {
    name: 'logs',
    does: 'logs a million lines',
    resolve: `for (let n = 0; n < ${ROWS}; n++) host.log.info('line ' + n); ${DROP}`,
    says: /logs/,
    isWell: true,
  },
  {
    name: 'pushes',
    does: 'pushes a million targets, a call each',
    resolve:
      `for (let n = 0; n < ${ROWS}; n++) host.setTargets([{ mac: 0x020001000000 + n, to: { ip: '192.0.2.1', port: 4789 } }]); ` +
      DROP,
    says: /pushes/,
    isWell: true,
  },
  {
    name: 'invalidates',
    does: 'invalidates a million MACs, a call each',
    resolve: `for (let n = 0; n < ${ROWS}; n++) host.invalidate([0x020001000000 + n]); ${DROP}`,
    says: /invalidates/,
    isWell: true,
  },
  {
    name: 'peers',
    does: 'names a million peers, again and again',
    resolve:
      `const list = Array.from({ length: ${ROWS} }, (_, n) => '10.' + (n >> 16) + '.' + ((n >> 8) & 255) + '.' + (n & 255)); ` +
      `host.setPeers(list); host.setPeers(list.reverse()); ${DROP}`,
    says: /peers/,
    isWell: true,
  },
  {
    name: 'replaces',
    does: 'replaces a million targets and addresses',
    resolve:
      `const targets = Array.from({ length: ${ROWS} }, (_, n) => ({ mac: 0x020001000000 + n, to: { ip: '192.0.2.1', port: 4789 } })); ` +
      `host.replaceAll({ targets, addresses: [], revision: 'r' }).catch(() => {}); ${DROP}`,
    says: /replaces/,
    isWell: true,
  },
  {
    name: 'degrades',
    does: 'degrades and restores its overlay a hundred thousand times',
    resolve: `for (let n = 0; n < 1e5; n++) { host.degrade('no ' + n); host.restore(); } ${DROP}`,
    says: /degrades/,
    isWell: true,
  },
  {
    name: 'babbles',
    does: 'writes to its standard output and error without end',
    resolve: `const say = () => { for (let n = 0; n < 2000; n++) console.error('x'.repeat(500)); setImmediate(say); }; say(); ${DROP}`,
    says: /babbles/,
    isWell: true,
    quick: true,
  },
  // Others' things
  {
    name: 'patches',
    does: 'patches what everything uses',
    resolve:
      `JSON.parse = JSON.stringify = () => 'no'; Array.prototype.map = Array.prototype.push = () => { throw new Error('mine') }; ` +
      `Promise.prototype.then = () => {}; globalThis.setTimeout = () => 0; ${DROP}`,
    says: /patches/,
  },
  {
    name: 'closes',
    does: 'closes all descriptors',
    head: `import { closeSync } from 'node:fs';`,
    resolve: `for (let fd = 0; fd < 200; fd++) try { closeSync(fd) } catch {} ${DROP}`,
    says: /closes/,
  },
  {
    name: 'garbles',
    does: 'writes garbage into all descriptors',
    head: `import { writeSync } from 'node:fs';`,
    resolve: `for (let fd = 0; fd < 40; fd++) try { writeSync(fd, Buffer.alloc(4096, 0xa5)) } catch {} ${DROP}`,
    says: /garbles/,
    quick: true,
  },
  {
    name: 'writes-files',
    does: `writes into varpd's files`,
    head: `import { writeFileSync } from 'node:fs';`,
    resolve: `writeFileSync(FILE, '{}'); ${DROP}`,
    says: /EACCES|permission denied/i,
  },
  {
    name: 'writes-state',
    does: `writes into another plugin's state directory`,
    head: `import { writeFileSync } from 'node:fs';`,
    resolve: `writeFileSync(OTHER + '/secret', '{}'); ${DROP}`,
    says: /EACCES|permission denied/i,
    since: 1,
    quick: true,
  },
  {
    name: 'reads-state',
    does: `reads another plugin's state`,
    head: `import { readFileSync } from 'node:fs';`,
    resolve: `host.log.info(readFileSync(OTHER + '/secret', 'utf8')); ${DROP}`,
    says: /EACCES|permission denied/i,
    since: 1,
  },
  {
    name: 'writes-memory',
    does: `writes into the memory of another process of its user`,
    head: `import { openSync, writeSync } from 'node:fs';`,
    resolve: `writeSync(openSync('/proc/' + process.ppid + '/mem', 'r+'), Buffer.alloc(4096), 0, 4096, 4096); ${DROP}`,
    says: /EACCES|permission denied/i,
    since: 1,
  },
  {
    name: 'attaches',
    does: 'attaches a debugger to its parent',
    head: `import { execFileSync } from 'node:child_process';`,
    resolve: `execFileSync('python3', ['-c', 'import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True); sys.exit(os.strerror(ctypes.get_errno()) if libc.ptrace(16, int(sys.argv[1]), None, None) < 0 else 0)', String(process.ppid)], { stdio: 'pipe' }); ${DROP}`,
    says: /not permitted/i,
  },
  {
    name: 'stays',
    does: 'never stops',
    stop: 'return new Promise(() => {})',
    resolve: `process.on('SIGTERM', () => {}); setInterval(() => {}, 10); ${DROP}`,
    says: /stays/,
    isWell: true,
  },
  // The last one: without Landlock it ends the spawner, and after a start by hand nothing starts that again before the next
  // start.
  {
    name: 'kills-others',
    does: 'kills varpd, its parent, and the other plugins',
    head: `import { readdirSync, readFileSync } from 'node:fs';
      const parentOf = (pid) => { try { return Number(/^PPid:\\s+(\\d+)/m.exec(readFileSync('/proc/' + pid + '/status', 'utf8'))[1]) } catch { return 0 } };
      const siblings = () => readdirSync('/proc').filter((pid) => pid !== String(process.pid) && parentOf(pid) === process.ppid).map(Number);`,
    resolve: `for (const pid of [VARPD, ...siblings(), process.ppid]) try { process.kill(pid, 'SIGKILL') } catch {} ${DROP}`,
    says: /kills-others/,
    isWell: true,
    staysWellSince: 6,
    quick: true,
  },
];

/** The state directory of another plugin, with a file that says so. */
export function writeOtherState(
  directory: string,
  owner: { readonly uid: number; readonly gid: number },
): void {
  mkdirSync(directory, { mode: 0o700 });
  chownSync(directory, owner.uid, owner.gid);
  const secret = path.join(directory, 'secret');
  writeFileSync(secret, 'of another plugin', { mode: 0o600 });
  chownSync(secret, owner.uid, owner.gid);
}

/** `file`: one of varpd's own, for the plugin that writes there; `pid`: varpd's; `other`: the state directory of another
 * plugin. */
export function writeBadPlugin(
  directory: string,
  { name, head = '', start = '', resolve = DROP, stop = '' }: BadPlugin,
  { file, pid, other }: { readonly file: string; readonly pid: number; readonly other: string },
): void {
  mkdirSync(path.join(directory, name), { recursive: true });
  writeFileSync(
    path.join(directory, name, 'index.mjs'),
    `${head}
const FILE = ${JSON.stringify(file)};
const VARPD = ${pid};
const OTHER = ${JSON.stringify(other)};
export default {
  apiVersion: 2, name: '${name}', mode: 'dynamic', properties: [],
  create: (host) => ({
    start: async () => { ${start} },
    stop: async () => { ${stop} },
    resolve: (lookup, signal) => { ${resolve} },
  }),
};
`,
  );
}
