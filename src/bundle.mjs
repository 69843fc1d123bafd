/**
 * The programs of varpd and dladm, each in few files: node src/bundle.mjs, after TypeScript has made dist.
 *
 * Node takes longer to find and link three hundred modules than to run them. A varpd of few files starts in half the time, and so
 * does the stand-in that moves frames meanwhile. Each program stays where it is in dist, as one line that imports what is made
 * here; every other module stays as it is, for plugins and tests. Code that several programs share is in files of its own.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inDist = (file) => path.join(root, 'dist', file);
const OUTPUT = 'programs';

const PROGRAMS = [
  'src/daemon/main',
  'src/daemon/bridge-process',
  'src/daemon/rehearsal-process',
  'src/daemon/handover/stand-in-process',
  'src/daemon/state/disk-thread-worker',
  'src/datapath/userland/thread/worker',
  'src/cli/main',
  'plugins/files/reader-process',
];

/** A module finds the files beside it by import.meta.url: that is where TypeScript has put it, and not the file that it is in now. */
const places = {
  name: 'places',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
      const place = path.relative(root, file).replace(/\.ts$/, '.js');
      const url = `new URL(${JSON.stringify(`../${place}`)}, import.meta.url).href`;
      return { contents: fs.readFileSync(file, 'utf8').replaceAll('import.meta.url', url), loader: 'ts' };
    });
  },
};

/** Packages that are no ES modules ask for those of Node by this. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);`;

const nameOf = (program) => program.replaceAll('/', '-');

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: PROGRAMS.map((program) => ({ in: `${program}.ts`, out: nameOf(program) })),
  outdir: inDist(OUTPUT),
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  banner: { js: REQUIRE },
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  metafile: true,
  logLevel: 'warning',
  plugins: [places],
});
// Names change with what is in them.
const made = new Set(Object.keys(metafile.outputs).map((file) => path.basename(file)));
for (const name of fs.readdirSync(inDist(OUTPUT)))
  if (!made.has(name)) fs.rmSync(inDist(`${OUTPUT}/${name}`));

for (const program of PROGRAMS) {
  const file = inDist(`${program}.js`);
  const target = path.relative(path.dirname(file), inDist(`${OUTPUT}/${nameOf(program)}.js`));
  const [first] = fs.readFileSync(file, 'utf8').split('\n');
  const shebang = first.startsWith('#!') ? `${first}\n` : '';
  fs.writeFileSync(file, `${shebang}import '${target.startsWith('.') ? target : `./${target}`}';\n`);
}
