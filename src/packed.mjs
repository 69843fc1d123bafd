/**
 * The files of dist that a package has: those that run, and the types that they export. bundle.mjs calls this, and npm reads
 * dist/.npmignore, which is written here.
 *
 * The programs are bundles, and most modules of dist are there for tests alone. The others are what the exports of
 * package.json and the plugins load, and the lines that lead to the programs.
 */
import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';

/** Folders of dist with modules. */
const FOLDERS = ['src', 'plugins'];
/** A module that is started or imported by its place, which no import line shows. */
const BY_PLACE = /(?:new URL|register)\(\s*['"`](\.{1,2}\/[^'"`$]+\.js)['"`],\s*import\.meta\.url/g;

/** The addon and the program that confines plugins, for each architecture. */
const NATIVE = /(?:dgram_extra-\w+\.node|confine-\w+)$/;

const filesUnder = (directory) =>
  fs
    .readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));

/** Paths in dist of all modules that these import, and of these. */
async function modulesOf(dist, entries) {
  const { metafile } = await build({
    absWorkingDir: dist,
    entryPoints: entries,
    bundle: true,
    write: false,
    metafile: true,
    outdir: dist,
    platform: 'node',
    format: 'esm',
    packages: 'external',
    external: ['*.node'],
    logLevel: 'warning',
  });
  return Object.keys(metafile.inputs);
}

/** Paths in dist of all modules that any module names by its place. */
function modulesByPlace(dist) {
  const modules = FOLDERS.flatMap((folder) => filesUnder(path.join(dist, folder))).filter((file) =>
    file.endsWith('.js'),
  );
  return modules.flatMap((file) =>
    [...fs.readFileSync(file, 'utf8').matchAll(BY_PLACE)]
      .map(([, place]) => path.relative(dist, path.join(path.dirname(file), place)))
      .filter((found) => FOLDERS.includes(found.split('/')[0])),
  );
}

/** Paths in dist of all type declarations that these name, and of these. */
function typesOf(dist, entries) {
  const found = new Set();
  const visit = (file) => {
    if (found.has(file)) return;
    found.add(file);
    const text = fs.readFileSync(path.join(dist, file), 'utf8');
    for (const [, place] of text.matchAll(/(?:from |import\(|import )['"](\.{1,2}\/[^'"]+)\.js['"]/g))
      visit(path.join(path.dirname(file), `${place}.d.ts`));
  };
  entries.forEach(visit);
  return found;
}

/** `programs`: paths of the programs in dist, which stay. Throws when an export of the package is absent. */
export async function writeIgnore(root, programs) {
  const dist = path.join(root, 'dist');
  const { exports } = JSON.parse(fs.readFileSync(path.join(root, 'package.json'), 'utf8'));
  const inDist = (file) => path.relative(dist, path.join(root, file));
  const exported = Object.values(exports);
  const plugins = fs.readdirSync(path.join(dist, 'plugins')).map((name) => `plugins/${name}/index.js`);
  const entries = [
    ...exported.map((one) => inDist(one.default ?? one)),
    ...plugins.filter((file) => fs.existsSync(path.join(dist, file))),
    ...new Set(modulesByPlace(dist)),
  ];
  const kept = new Set([
    ...programs,
    ...(await modulesOf(dist, entries)),
    ...typesOf(
      dist,
      exported.flatMap(({ types }) => (types === undefined ? [] : [inDist(types)])),
    ),
  ]);
  const dropped = FOLDERS.flatMap((folder) => filesUnder(path.join(dist, folder)))
    .map((file) => path.relative(dist, file))
    .filter((file) => !kept.has(file) && !NATIVE.test(file));
  // The code of a program is that of the V8 here.
  fs.writeFileSync(path.join(dist, '.npmignore'), `${[...dropped.sort(), '*.map', '*.code'].join('\n')}\n`);
}
