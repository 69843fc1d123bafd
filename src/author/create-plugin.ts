/** `varpd create-plugin NAME [DIR]`: makes a package with a plugin that works, and its tests. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { checkPlugin } from '../daemon/plugins/plugin-loader.js';
import { invalidError, OverlayError } from '../model/errors.js';
import { filesOf, type Versions } from './templates.js';

const VARPD = fileURLToPath(new URL('../../../', import.meta.url));

/** Prints what it has made. Throws an OverlayError, and has changed nothing then. */
export function createPlugin(name: string, directory: string, print: (text: string) => void): void {
  checkName(name);
  if (existsSync(directory) && readdirSync(directory).length > 0)
    throw new OverlayError(
      'EXISTS',
      `${directory} is there already, and is not empty: name another directory`,
    );
  const files = filesOf(name, versions());
  for (const [file, text] of Object.entries(files)) {
    const place = path.join(directory, file);
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, text);
  }
  const shown = path.relative(process.cwd(), directory);
  print(`made ${shown}: ${Object.keys(files).join(', ')}\n`);
  print(`next: cd ${shown} && npm install && npm test\n`);
}

/** The versions that this varpd itself is built with. A varpd that no registry has is taken from its own directory. */
function versions(): Versions {
  const manifest = readFileSync(path.join(VARPD, 'package.json'), 'utf8');
  const { version, devDependencies, ...rest } = JSON.parse(manifest) as {
    version: string;
    private?: boolean;
    devDependencies: Readonly<Record<string, string>>;
  };
  return {
    varpd: rest.private === true ? `file:${VARPD.replace(/\/$/, '')}` : version,
    typescript: devDependencies['typescript'],
    nodeTypes: devDependencies['@types/node'],
  };
}

/** A package of npm has no capitals in its name. */
function checkName(name: string): void {
  try {
    checkPlugin({ apiVersion: 2, name, mode: 'point', properties: [], create: () => undefined });
  } catch {
    throw invalidError(
      `'${name}' is not the name of a plugin: a letter and at most 30 letters, digits, _ or -`,
    );
  }
  if (name !== name.toLowerCase())
    throw invalidError(`'${name}' has capitals, which a package must not have`);
}
