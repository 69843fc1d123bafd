/**
 * Runs a program that bundle.mjs has made: one script, and beside it the code that V8 compiles it to. bundle.mjs puts this file
 * beside the programs.
 *
 * V8 takes a third of the time of a start to read the source of varpd and to compile it, and Node as much again to find and link
 * modules. A script with its code needs neither. The code is of one version of V8, with its flags: any other compiles the script.
 */
import { readdirSync, readFileSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, URL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

/** A script is one function. Its place stands for import.meta.url, and importModule(url) for import(). */
export const HEAD = '(function (require, place, importModule) {';
export const FOOT = '})';

/** The file of a script's code. Each V8 finds its own alone. */
export const codeFile = (file) => file.replace(/\.js$/, `-${process.versions.v8}.code`);

/** Returns the script of a program, not yet run. */
export function scriptOf(file) {
  // esbuild writes ASCII alone.
  const source = readFileSync(file, 'latin1');
  return new Script(source, { filename: file, cachedData: codeOf(file) });
}

/** Without a file of the code, V8 compiles what it needs. */
function codeOf(file) {
  try {
    return readFileSync(codeFile(file));
  } catch {
    return undefined;
  }
}

/** Writes the code of a script, with all functions: V8 makes it of those alone that are called at once, unless it is told. */
export function compile(file) {
  setFlagsFromString('--no-lazy');
  const script = scriptOf(file);
  // The code says with which flags it was made.
  setFlagsFromString('--lazy');
  // A program that starts meanwhile finds all of it or none.
  writeFileSync(`${codeFile(file)}.new`, script.createCachedData());
  renameSync(`${codeFile(file)}.new`, codeFile(file));
  return path.basename(codeFile(file));
}

/** Does so for all scripts of a directory, and removes code that is of none of them. */
function compileAll(directory) {
  const names = readdirSync(directory);
  const isScript = (name) => readFileSync(path.join(directory, name), 'latin1').startsWith(HEAD);
  const scripts = names.filter((name) => name.endsWith('.js') && isScript(name));
  const made = scripts.map((name) => compile(path.join(directory, name)));
  for (const name of names)
    if (name.endsWith('.code') && !made.includes(name)) rmSync(path.join(directory, name));
}

export function run(name) {
  const url = new URL(name, import.meta.url);
  const script = scriptOf(fileURLToPath(url));
  script.runInThisContext()(createRequire(url), url.href, (place) => import(place));
}

// As a program it is for packages, which are made without the V8 that they are used with.
const own = fileURLToPath(import.meta.url);
const [, main] = process.argv;
if (main !== undefined && path.basename(main) === path.basename(own) && realpathSync(main) === own)
  compileAll(path.dirname(own));
