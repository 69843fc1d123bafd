/**
 * The programs of varpd and dladm, each in few files: node src/bundle.mjs, after TypeScript has made dist.
 *
 * Node takes longer to find and link three hundred modules than to run them. So each program of varpd is one script, with the code
 * that V8 makes of it (program.mjs): a varpd then starts in a third of the time, and so does the stand-in that moves frames
 * meanwhile. dladm is a module for each of its commands, and one for what they share. Each program stays where it is in dist, as a
 * line that runs what is made here; every other module stays as it is, for plugins and tests.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { writeIgnore } from './packed.mjs';
import { compile, FOOT, HEAD } from './program.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const inDist = (file) => path.join(root, 'dist', file);
const OUTPUT = 'programs';
const RUN = 'program.mjs';

const SCRIPTS = [
  'src/daemon/main',
  'src/daemon/bridge-process',
  'src/daemon/rehearsal-process',
  'src/daemon/handover/stand-in-process',
  'src/daemon/state/disk-thread-worker',
  'src/datapath/userland/thread/worker',
  'src/plugin-process/main',
  'src/plugin-process/spawner-process',
  'plugins/files/reader-process',
  'src/web/thread',
  'src/cni/main',
];
/** The live page, which a browser runs. */
const PAGE = 'page';
const MODULES = ['src/cli/main'];
/** Packages that most tests import. Each is in one file, which Node finds before that in the root of the project: to load the modules
 * of tap, of which there are 250, takes longer than many a test. */
const PACKAGES = {
  // The stack of a failed assertion leaves out what is in such a folder.
  tap: 'node_modules/@tapjs/index.js',
  zod: 'index.js',
  yaml: 'index.js',
  'fast-check': 'index.js',
};

/** A module finds the files beside it by import.meta.url: that is where TypeScript has put it, and not the file that it is in now.
 * Only Node knows how to import into a script a module that has no name yet. */
const places = (isScript) => ({
  name: 'places',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
      const place = path.relative(root, file).replace(/\.ts$/, '.js');
      const url = `new URL(${JSON.stringify(`../${place}`)}, ${isScript ? 'place' : 'import.meta.url'}).href`;
      const text = fs.readFileSync(file, 'utf8').replace(/^#!.*/, '');
      const source = text.replaceAll('import.meta.url', url);
      const contents = isScript ? source.replace(/\bimport\((?!')/g, 'importModule(') : source;
      return { contents, loader: 'ts' };
    });
  },
});

/** Packages that are no ES modules ask for those of Node by this. */
const REQUIRE = `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);`;

/** Preact's licence asks for this line. */
const LICENSE = '/* Includes Preact, (c) 2015-present Jason Miller, MIT License */';

const AS_SCRIPT = { format: 'cjs', banner: { js: HEAD }, footer: { js: FOOT } };
const AS_MODULES = { format: 'esm', splitting: true, banner: { js: REQUIRE } };

const nameOf = (program) => program.replaceAll('/', '-');

/** Resolves to the files that were made, the first of them that of the program. Their names change with what is in them. */
async function bundle(program, isScript) {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: [{ in: `${program}.ts`, out: nameOf(program) }],
    entryNames: '[name]-[hash]',
    outdir: inDist(OUTPUT),
    bundle: true,
    platform: 'node',
    target: 'node20',
    sourcemap: 'linked',
    sourcesContent: false,
    legalComments: 'none',
    metafile: true,
    logLevel: 'warning',
    plugins: [places(isScript)],
    ...(isScript ? AS_SCRIPT : AS_MODULES),
  });
  const made = Object.entries(metafile.outputs);
  const isMain = ([, { entryPoint }]) => entryPoint === `${program}.ts`;
  const [[main]] = made.filter(isMain);
  return [main, ...made.map(([file]) => file)].map((file) => path.basename(file));
}

async function bundlePage() {
  await build({
    absWorkingDir: root,
    entryPoints: ['src/web/page/page.tsx', 'src/web/page/page.css', 'src/web/page/index.html'],
    outdir: inDist(`${OUTPUT}/${PAGE}`),
    loader: { '.html': 'copy' },
    bundle: true,
    platform: 'browser',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    minify: true,
    // The licence of a library goes where its code goes.
    legalComments: 'inline',
    banner: { js: LICENSE },
    logLevel: 'warning',
  });
}

/** Makes dist/node_modules/NAME, of which `main` is the file. */
async function bundlePackage(name, main) {
  const place = inDist(`node_modules/${name}`);
  // Node finds the names that a package exports also when it is no ES module, and esbuild does not.
  const exported = Object.keys(await import(name)).filter((one) => one !== 'module.exports');
  await build({
    stdin: { contents: `export { ${exported.join(', ')} } from '${name}';`, resolveDir: root },
    outfile: path.join(place, main),
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    banner: { js: REQUIRE },
    minifyWhitespace: true,
    logLevel: 'warning',
  });
  const manifest = { name, type: 'module', main };
  fs.writeFileSync(path.join(place, 'package.json'), JSON.stringify(manifest));
}

/** In place of the module, what runs the program. */
function lead(program, line) {
  const file = inDist(`${program}.js`);
  const [first] = fs.readFileSync(file, 'utf8').split('\n');
  const shebang = first.startsWith('#!') ? `${first}\n` : '';
  const toOutput = path.relative(path.dirname(file), inDist(OUTPUT));
  fs.writeFileSync(file, `${shebang}${line(toOutput.startsWith('.') ? toOutput : `./${toOutput}`)}\n`);
}

fs.mkdirSync(inDist(OUTPUT), { recursive: true });
fs.copyFileSync(path.join(root, 'src', RUN), inDist(`${OUTPUT}/${RUN}`));
const made = new Set([RUN]);
for (const program of SCRIPTS) {
  const [main, ...files] = await bundle(program, true);
  for (const file of [...files, compile(inDist(`${OUTPUT}/${main}`))]) made.add(file);
  lead(program, (output) => `import { run } from '${output}/${RUN}';\n\nrun('${main}');`);
}
for (const program of MODULES) {
  const [main, ...files] = await bundle(program, false);
  for (const file of files) made.add(file);
  lead(program, (output) => `import '${output}/${main}';`);
}
await bundlePage();
made.add(PAGE);
for (const name of fs.readdirSync(inDist(OUTPUT)))
  if (!made.has(name)) fs.rmSync(inDist(`${OUTPUT}/${name}`));
for (const [name, main] of Object.entries(PACKAGES)) await bundlePackage(name, main);
await writeIgnore(
  root,
  [...SCRIPTS, ...MODULES].map((program) => `${program}.js`),
);
