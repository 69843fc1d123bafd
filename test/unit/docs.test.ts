// The tables of the documentation say what the tables in src say, and these are whole: each method has a handler, each option of
// a command is in its synopsis.
import t from 'tap';
import { allCommands } from '../../src/cli/dladm.js';
import { METHOD_NAMES } from '../../src/control/methods.js';
import { createHandlers, type DaemonControl } from '../../src/daemon/handlers.js';
import { Registry } from '../../src/daemon/overlays/registry.js';
import { generatedFiles } from '../docs/tables.js';
import { textOf } from '../helpers/documents.js';

t.test('the tables are as `npm run docs` writes them', async (t) => {
  for (const [file, text] of await generatedFiles()) t.equal(textOf(file), text, `${file}: npm run docs`);
});

t.test('every method has a handler and a row', async (t) => {
  const handlers = createHandlers(
    Object.create(Registry.prototype) as Registry,
    { features: {} },
    {} as DaemonControl,
  );
  t.same(Object.keys(handlers).sort(), [...METHOD_NAMES].sort());
  const page = textOf('docs/control.md');
  for (const name of METHOD_NAMES) t.ok(page.includes(`\n| \`${name}\` | `), name);
});

t.test('a synopsis has the options of its command, and no other', async (t) => {
  for (const { synopsis, options } of await allCommands()) {
    const shown = [...synopsis.matchAll(/(?<=[ [])-(?:-[a-z-]+|[a-zA-Z])/g)].map(([option]) => option);
    const spelled = options.map(({ name, short }) => (short === undefined ? `--${name}` : `-${short}`));
    t.same(shown.sort(), spelled.sort(), synopsis);
  }
});
