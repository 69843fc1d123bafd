// dladm top on a terminal: it is given back as it was however top ends, and the screen is right after each change of its size.
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';

import { encodeMessage } from '../../src/control/framing.js';
import type { OverlayStatistics } from '../../src/control/messages.js';
import type { PeerRow } from '../../src/control/peer-messages.js';
import { EXIT } from '../../src/model/exit-statuses.js';
import { directory, listen, runMain } from '../helpers/fake-control.js';
import { skipUnless } from '../helpers/need.js';
import { isRunning, waitUntil } from '../helpers/process.js';
import { Terminal, type TerminalSize } from '../helpers/tmux.js';
import { drop, grown, overlay, peerRow, port } from '../helpers/top-samples.js';

const skip = skipUnless({ programs: ['tmux', 'bash', 'stty'] });

const NORMAL = 'alternate=0 cursor=1 wrap=1';
const TAKEN = 'alternate=1 cursor=0 wrap=0';

const OVERLAYS = Array.from({ length: 40 }, (_, index) =>
  overlay(`overlay${index}`, {
    rates: { tx_bytes: 1000 * (index + 1), rx_frames: 100 - index },
    drops: [drop('rx_no_port', index % 3)],
    ports: [port(`overlay${index}`), port(`foo${index}`, { tx_bytes: 8 })],
  }),
);

/** A varpd that answers each request with these readings, which grow at their rates, unless it is hung. */
class Varpd {
  overlays: readonly OverlayStatistics[] = OVERLAYS;
  /** Those of each overlay. A member that was not asked for is ignored. */
  peers: readonly PeerRow[] = [];
  isHung = false;
  readonly #startedMs = performance.now();
  /** In place of the readings. */
  error: string | undefined;
  asked = 0;

  readonly answer = (socket: Socket): void => {
    socket.on('error', () => undefined);
    this.asked++;
    if (this.isHung) return;
    const { error } = this;
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const overlays = this.overlays.map((overlay) => grown(overlay, seconds));
    const reply =
      error === undefined
        ? { result: { overlays, missing: [], rows: this.peers, next: null } }
        : { error: { message: error } };
    socket.end(encodeMessage({ jsonrpc: '2.0', id: 1, ...reply }));
  };
}

async function newTerminal(t: Test, size?: TerminalSize) {
  const varpd = new Varpd();
  const socket = await listen(varpd.answer);
  const own = mkdtempSync(path.join(directory, 'tmux-'));
  // The terminal has its socket there, and is ended by that first: the last teardown comes first.
  t.teardown(() => {
    rmSync(own, { recursive: true, force: true });
  });
  const terminal = await Terminal.start(t, own, socket, size);
  /** Starts top, and resolves with its process id. */
  const top = async (...args: readonly string[]): Promise<number> => {
    await terminal.type(`clear; echo kept; stty -a | cksum; dladm top ${args.join(' ')}`);
    await terminal.shows(/overlays?( |,)/);
    return terminal.foreground();
  };
  return { terminal, varpd, top };
}

await t.test('however it ends, the terminal is as it was', { skip }, async (t) => {
  const { terminal, top } = await newTerminal(t);
  const ends: [what: string, status: number, end: (pid: number) => unknown][] = [
    ['q', 0, () => terminal.press('q')],
    ['Ctrl-C', 0, () => terminal.press('C-c')],
    ['SIGTERM', 143, (pid) => process.kill(pid, 'SIGTERM')],
    ['SIGINT', 130, (pid) => process.kill(pid, 'SIGINT')],
    ['SIGHUP', 129, (pid) => process.kill(pid, 'SIGHUP')],
    ['SIGQUIT', 131, (pid) => process.kill(pid, 'SIGQUIT')],
  ];
  for (const [what, status, end] of ends) {
    const pid = await top();
    t.equal(await terminal.modes(TAKEN), TAKEN);
    await end(pid);
    await terminal.shows(/ready>$/m);
    await terminal.type('echo "status $?"; stty -a | cksum');
    const lines = await terminal.shows(/^status \d+\n\d+ \d+$/m);
    const [kept, before] = lines;
    const place = lines.findIndex((line) => /^status \d/.test(line));
    t.equal(kept, 'kept', `${what}: the screen of the shell`);
    t.equal(lines[place], `status ${status}`, what);
    t.equal(lines[place + 1], before, `${what}: stty`);
    t.equal(await terminal.modes(NORMAL), NORMAL, what);
  }
});

await t.test('the terminal hangs up', { skip }, async (t) => {
  const { terminal, top } = await newTerminal(t);
  const pid = await top();
  await terminal.hangUp();
  await waitUntil(() => !isRunning(pid), { what: 'dladm to end' });
});

await t.test('stopped and continued', { skip }, async (t) => {
  const { terminal, top } = await newTerminal(t);
  const pid = await top();
  for (const stop of [() => terminal.press('C-z'), () => process.kill(pid, 'SIGTSTP')]) {
    await stop();
    await terminal.shows(/Stopped/);
    t.equal(await terminal.modes(NORMAL), NORMAL);
    await terminal.resize({ columns: 60, rows: 20 });
    await terminal.type('clear; fg');
    // In the size that it has now.
    await terminal.shows(/^40 overlays(.*\n){19}h help/);
    t.equal(await terminal.modes(TAKEN), TAKEN);
    await terminal.resize({ columns: 80, rows: 24 });
    await terminal.shows(/RXFRAMES/);
  }
  process.kill(pid, 'SIGSTOP');
  await terminal.shows(/Stopped/);
  await terminal.type('clear; fg');
  await terminal.shows(/^overlay39 /m);
  t.equal(await terminal.modes(TAKEN), TAKEN, 'where nothing could be done before');
  await terminal.press('q');
  await terminal.shows(/^ready>$/m);
  t.equal(await terminal.modes(NORMAL), NORMAL);
});

await t.test('every size, without residue', { skip }, async (t) => {
  const { terminal, top } = await newTerminal(t);
  await top();
  await terminal.press('p');
  await terminal.shows(/PAUSED/);
  for (const size of [
    { columns: 40, rows: 10 },
    { columns: 300, rows: 100 },
    { columns: 20, rows: 5 },
    { columns: 132, rows: 43 },
    { columns: 79, rows: 14 },
    { columns: 80, rows: 24 },
  ]) {
    await terminal.resize(size);
    const isWide = size.columns >= 40;
    await terminal.shows(
      size.columns > 130 ? /DETAILS/ : isWide ? /TXBITS(?!.*DETAILS)/ : /BITS(?!.*TXBITS)/,
    );
    const isWhole = async (): Promise<boolean> => {
      const drawn = await terminal.screen();
      await terminal.press('C-l');
      await terminal.shows(/overlay39/);
      const again = await terminal.screen();
      return drawn.length === size.rows && drawn.join('\n') === again.join('\n');
    };
    await waitUntil(isWhole, { what: `${size.columns}x${size.rows} to be as a new screen is` });
    t.pass(`${size.columns}x${size.rows}`);
  }
});

await t.test('keys: views, sorting, rows, help, an overlay', { skip }, async (t) => {
  const { terminal, top } = await newTerminal(t);
  await top();
  const rows = async (): Promise<string[]> =>
    (await terminal.screen()).slice(4).map((line) => line.split(' ')[0]);
  await terminal.shows(/sort: BITS\n.*\noverlay39 /);
  await terminal.press('n');
  await terminal.shows(/sort: LINK\n.*\noverlay0 /);
  t.same((await rows()).slice(0, 3), ['overlay0', 'overlay1', 'overlay2']);
  await terminal.press('r');
  await terminal.shows(/sort: LINK reversed\n.*\noverlay39 /);
  await terminal.press('>', '>');
  await terminal.shows(/sort: BITS\n/);
  await terminal.press('n', 'Down', 'Down', 'NPage');
  await terminal.shows(/^overlay17 .*\n(.*\n)*overlay19: lookups: /m);
  await terminal.press('Enter');
  await terminal.shows(/only overlay19 .*\n.*\n(foo19|overlay19) /);
  await terminal.press('Escape');
  await terminal.shows(/overlay19: lookups/);
  await terminal.press('Tab');
  await terminal.shows(/^LINK +OVER /m);
  await terminal.press('BTab', '3');
  await terminal.shows(/^LINK +REASON /m);
  await terminal.press('h');
  await terminal.shows(/^Keys/m);
  await terminal.press('x', '+');
  await terminal.shows(/every 2 s/);
  await terminal.press('-', 'u', '1');
  await terminal.shows(/every 1 s\n(.*\n)*.* TXBYTES /);
});

await t.test('peers are read as soon as they are shown, and then no more', { skip }, async (t) => {
  const { terminal, top, varpd } = await newTerminal(t);
  varpd.overlays = OVERLAYS.slice(0, 2);
  varpd.peers = [peerRow('10.0.0.1', { state: 'unreachable', reason: 'peer 10.0.0.1 cannot be reached' })];
  await top('-i', '3600');
  t.equal(varpd.asked, 1);
  await terminal.press('p', '4');
  await terminal.shows(/PAUSED(.*\n){4}The peers have not been read yet\./);
  t.equal(varpd.asked, 1);
  await terminal.press('p');
  await terminal.shows(/every 3600 s(.*\n){4}10\.0\.0\.1 overlay0 unreachable +-- .*\n10\.0\.0\.1 overlay1 /);
  t.equal(varpd.asked, 1 + 3);
  t.match(await terminal.colours(), /\^\[[0-9;]*31m/, 'trouble is red');
  await terminal.press('1');
  await terminal.shows(/^LINK +STATE /m);
  t.equal(varpd.asked, 4);
  varpd.peers = [peerRow('10.0.0.2')];
  await terminal.press('4');
  await terminal.shows(/^10\.0\.0\.2 overlay0 ok /m);
  t.equal(varpd.asked, 4 + 3);
  await terminal.press('q');
  await terminal.shows(/^ready>$/m);
});

await t.test('varpd that fails, or does not answer', { skip }, async (t) => {
  const { terminal, top, varpd } = await newTerminal(t);
  await top();
  varpd.error = 'no memory \x1b[2J';
  await terminal.shows(/^no memory \\x1b\[2J\nas of [\d:]+; trying again\n.*\n.*\noverlay39 /);
  varpd.error = undefined;
  await terminal.shows(/^40 overlays/);
  varpd.isHung = true;
  await terminal.shows(/^no answer from varpd for \d+ s\n/);
  await terminal.press('q');
  await terminal.shows(/^ready>$/m);
});

await t.test('text of varpd controls nothing; colours', { skip }, async (t) => {
  const { terminal, top, varpd } = await newTerminal(t);
  const evil = '\x1b]0;owned\x07\x1b[31m\x9b2J';
  varpd.overlays = [overlay(evil, { health: { status: 'DEGRADED', details: `x${evil}` } })];
  await top();
  const lines = await terminal.shows(/: x\\x1b\]0;owned\\x07\\x1b\[31m\\x9b2J/);
  t.match(lines[4], /^\\x1b\]0;owned\\x0 DEGRADED /, 'a name is cut');
  t.notMatch(await terminal.title(), /owned/);
  t.match(await terminal.colours(), /\^\[[0-9;]*31m/, 'trouble is red');
  await terminal.press('q');
  await terminal.shows(/^ready>$/m);
  await terminal.shell('export NO_COLOR=1');
  await top();
  await terminal.shows(/DEGRADED/);
  t.notMatch(await terminal.colours(), /\^\[[0-9;]*3[0-7]m/, 'NO_COLOR');
});

await t.test('a number of readings; no terminal; a dumb one', { skip }, async (t) => {
  const { terminal, varpd } = await newTerminal(t, { columns: 250, rows: 24 });
  t.match(await terminal.shell('dladm top -n 2 -i 0.1'), ['status 0'], 'nothing is left on the screen');
  t.ok(varpd.asked >= 2);
  const dumb = await terminal.shell('TERM=dumb dladm top');
  t.match(
    dumb.join(' '),
    /^dladm: a terminal of type 'dumb' has no screen .* -b prints tables usage: .*status 2$/,
  );
  const batch = await terminal.shell('TERM=dumb dladm top -b -n 1 overlay3 | head -2');
  t.match(batch, [/^LINK +STATE .* DETAILS$/, /^overlay39 +ONLINE/, 'status 0']);
  const input = await terminal.shell('dladm top < /dev/null');
  t.match(input.join(' '), /top needs a terminal; -b prints tables/);
  varpd.error = 'no memory';
  t.match(
    await terminal.shell('dladm top'),
    [/failed to get statistics|no memory/],
    'no screen for a first failure',
  );
});

await t.test('batch mode', async (t) => {
  const varpd = new Varpd();
  varpd.overlays = OVERLAYS.slice(0, 2);
  const socket = await listen(varpd.answer);
  const refused = await runMain(socket, 'top');
  t.match(refused, { code: EXIT.USAGE, stdout: '' });
  t.match(refused.stderr, /^dladm: top needs a terminal; -b prints tables\nusage: dladm top /);
  const twice = await runMain(
    socket,
    'top',
    '-b',
    '-n',
    '2',
    '-i',
    '0.1',
    '-p',
    '-o',
    'link,txbytes,txframes',
  );
  t.match(
    twice.stdout,
    /^overlay1:2000:0\noverlay0:1000:0\noverlay1:\d+:0\noverlay0:\d+:0\n$/,
    'a table for each reading',
  );
  const json = await runMain(socket, 'top', '-b', '-n', '1', '--json', '--view', 'ports', '--sort', 'link');
  t.match(JSON.parse(json.stdout), {
    v: 1,
    at: /^\d{4}-.*Z$/,
    view: 'ports',
    rows: [{ link: 'foo0', over: 'overlay0', txbytes: 8, txbits: 64, drops: 0, details: '' }, {}, {}, {}],
  });
  const table = await runMain(socket, 'top', '-b', '-n', '1', '--view', 'drops');
  t.match(
    table.stdout,
    /^LINK +REASON +DROPS +FRAMES +LAST +DETAILS\noverlay1 +rx_no_port +1\.0 +\d+ +-- +no port/,
  );
  varpd.error = 'no memory';
  t.match(await runMain(socket, 'top', '-b'), { code: EXIT.FAILED, stderr: /no memory/ });
});
