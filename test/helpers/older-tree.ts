// The tree of an older version of this project, built without the network: to start its varpd and upgrade that in place.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

import ts from 'typescript';

import { fromRoot } from './need.js';

const root = path.resolve(fromRoot('.'));
/** Whoever the clone belongs to. */
const git = (...args: string[]): string[] => ['-c', 'safe.directory=*', '-C', root, ...args];
const compiler = (process.env['CC'] ?? 'cc').split(/\s+/);

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly version?: string; readonly dev?: boolean; readonly optional?: boolean }>
  >;
}

/** The packages that a program of this tree needs to run or to be compiled: name -> version. */
function packagesOf(lock: string): [name: string, version: string][] {
  const { packages } = JSON.parse(lock) as Lock;
  return Object.entries(packages)
    .filter(([name, { dev, optional }]) => name !== '' && dev !== true && optional !== true)
    .map(([name, { version = '' }]) => [name, version]);
}

/** False when the tree of this commit can be built here, else the reason in words. */
export function skipUnlessBuildable(commit: string): false | string {
  const found = spawnSync('git', git('cat-file', '-e', `${commit}^{commit}`), { encoding: 'utf8' });
  if (found.status !== 0)
    return `needs a clone that has commit ${commit.slice(0, 7)}: ${found.stderr.trim()}`;
  if (spawnSync(compiler[0], ['--version']).status !== 0) return `needs the compiler ${compiler[0]}`;
  const lock = execFileSync('git', git('show', `${commit}:package-lock.json`), { encoding: 'utf8' });
  const installed = JSON.parse(
    readFileSync(path.join(root, 'node_modules/.package-lock.json'), 'utf8'),
  ) as Lock;
  const here = new Map(Object.entries(installed.packages).map(([name, { version }]) => [name, version]));
  const missing = packagesOf(lock).filter(([name, version]) => here.get(name) !== version);
  return missing.length > 0 && `needs ${missing.map((each) => each.join('@')).join(', ')}`;
}

/** Its sources and its program, as a clone that was built with `npm run build`; every user may read it. */
export function buildOlderTree(commit: string, directory: string): void {
  const archive = execFileSync(
    'git',
    git('archive', commit, 'src', 'plugins', 'config', 'package.json', 'package-lock.json'),
    {
      maxBuffer: 64 << 20,
    },
  );
  execFileSync('tar', ['-x', '-C', directory], { input: archive });
  copyModules(directory);
  for (const folder of ['src', 'plugins']) transpile(directory, folder);
  compileNative(directory);
  finish(directory);
}

/** The program of this tree takes the place of the older one, under a varpd that runs. */
export function upgradeTree(directory: string): void {
  const at = (name: string): string => path.join(directory, name);
  for (const folder of ['src', 'plugins', 'programs'])
    cpSync(path.join(root, 'dist', folder), at(`dist.new/${folder}`), { recursive: true });
  renameSync(at('dist'), at('dist.old'));
  renameSync(at('dist.new'), at('dist'));
  rmSync(at('dist.old'), { recursive: true });
  for (const file of ['package.json', 'package-lock.json', 'config'])
    cpSync(path.join(root, file), at(file), { recursive: true });
  copyModules(directory);
  finish(directory);
}

/** Copies, since a link would lead out of a root directory of its own. */
function copyModules(directory: string): void {
  for (const [name] of packagesOf(readFileSync(path.join(directory, 'package-lock.json'), 'utf8')))
    cpSync(path.join(root, name), path.join(directory, name), { recursive: true });
}

/** Types have been checked when that version was the newest. */
function transpile(directory: string, folder: string): void {
  const compilerOptions: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.ESNext,
    verbatimModuleSyntax: true,
  };
  const names = readdirSync(path.join(directory, folder), { recursive: true, encoding: 'utf8' });
  for (const name of names.filter((each) => each.endsWith('.ts'))) {
    const text = readFileSync(path.join(directory, folder, name), 'utf8');
    const file = path.join(directory, 'dist', folder, name.replace(/ts$/, 'js'));
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, ts.transpileModule(text, { compilerOptions }).outputText);
  }
}

/** As src/setup.mjs has it. */
function compileNative(directory: string): void {
  const native = path.join(directory, 'src/dgram-extra');
  const sources = readdirSync(native)
    .filter((name) => name.endsWith('.c'))
    .map((name) => path.join(native, name));
  const headers = path.join(directory, 'node_modules/node-api-headers/include');
  const options = ['-O2', '-fPIC', '-pthread', '-shared', '-std=gnu11', '-DNAPI_VERSION=8', '-I', headers];
  const output = path.join(directory, 'dist/src/dgram-extra/dgram_extra.node');
  const [command, ...own] = compiler;
  execFileSync(command, [...own, ...options, '-o', output, ...sources]);
}

function finish(directory: string): void {
  const { bin } = JSON.parse(readFileSync(path.join(directory, 'package.json'), 'utf8')) as {
    bin: Record<string, string>;
  };
  execFileSync('chmod', ['-R', 'a+rX', directory]);
  for (const file of Object.values(bin).map((name) => path.join(directory, name)))
    if (existsSync(file)) chmodSync(file, 0o755);
}
