/** The commands of varpd for authors of plugins: their command lines. */
import path from 'node:path';
import { parseArgs } from 'node:util';

import { EXIT } from '../model/exit-statuses.js';
import { checkPluginIn } from './check-plugin.js';
import { createPlugin } from './create-plugin.js';

/** `args` begins with the name of the command. Resolves to the exit status; rejects with an OverlayError. `wrongUsage` makes the
 * error about a command line. */
export async function authorCommand(
  args: readonly string[],
  wrongUsage: (message: string) => Error,
): Promise<number> {
  const [command, ...rest] = args;
  const print = (text: string): void => {
    process.stdout.write(text);
  };
  const { values, positionals } = parse(rest, wrongUsage);
  const unexpected = (count: number): void => {
    if (positionals.length > count) throw wrongUsage(`unexpected argument '${positionals[count]}'`);
  };
  if (command === 'create-plugin') {
    const [name, directory = `varpd-plugin-${name}`] = positionals as [string?, string?];
    if (name === undefined) throw wrongUsage('create-plugin: the name of the plugin is missing');
    unexpected(2);
    const option = Object.keys(values).at(0);
    if (option !== undefined) throw wrongUsage(`create-plugin has no option --${option}`);
    createPlugin(name, path.resolve(directory), print);
    return EXIT.DONE;
  }
  const [directory] = positionals as [string?];
  if (directory === undefined) throw wrongUsage('check-plugin: the directory of the plugin is missing');
  unexpected(1);
  const { resolve, listen, property = [], secret = [] } = values;
  const order = {
    directory: path.resolve(directory),
    properties: property,
    secrets: secret,
    resolve,
    listen,
  };
  return checkPluginIn(order, print);
}

function parse(args: string[], wrongUsage: (message: string) => Error) {
  try {
    return parseArgs({
      args,
      allowPositionals: true,
      options: {
        resolve: { type: 'string' },
        listen: { type: 'string' },
        property: { type: 'string', short: 'p', multiple: true },
        secret: { type: 'string', multiple: true },
      },
    });
  } catch (error) {
    throw wrongUsage((error as Error).message);
  }
}
