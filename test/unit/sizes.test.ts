// What every source file has: a head that says what it is, and an end before it is too long.
import t from 'tap';

import { sourceTexts } from '../helpers/sources.js';

/** Files above 400 lines, and why. */
const LONG: Readonly<Record<string, string>> = {};
const MAX_LINES = 400;
/** Lines of code: comments and blank lines are free. What can be decided in TypeScript has no place in C, but for what must
 * go on when no TypeScript runs any more (ending.c, removal.c: 350 lines), and what only a system call can read (udp-errors.c:
 * 170; of the headers of tunnels, udp-receive.c: 40) or forbid (system-calls.c: 80). A thread can give up its rights only by itself,
 * in a handler (privileges.c: 90), and set its slice (dgram_extra.c: 20). Superframes inside a tunnel (offload.c, tap.c: 200) are cut
 * and joined segment by segment, as those without one. Superframes that leave whole (tunnel-send.c: 120; udp-send.c: 50) get their headers where others are cut. */
const MAX_NATIVE_LINES = 3360;

const texts = sourceTexts();

t.test('every file says at its head what it is, and ends before it is too long', (t) => {
  const headless = [...texts]
    .filter(([, text]) => !/^(?:#!.*\n)?\s*(?:\/\*|\/\/)/.test(text))
    .map(([file]) => file);
  t.strictSame(headless, []);
  const lines = (text: string) => text.split('\n').length - 1;
  const long = [...texts].filter(([, text]) => lines(text) > MAX_LINES).map(([file]) => file);
  t.strictSame(long, Object.keys(LONG), `only these are longer than ${MAX_LINES} lines`);
  const native = [...texts]
    .filter(([file]) => /\.[ch]$/.test(file))
    .map(([, text]) => text.replaceAll(/\/\*.*?\*\//gs, '').replaceAll(/^\s*\n/gm, ''))
    .reduce((sum, text) => sum + lines(text), 0);
  t.ok(native < MAX_NATIVE_LINES, `${native} lines of C`);
  t.end();
});
