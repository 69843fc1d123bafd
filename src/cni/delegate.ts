/** The IPAM plugin: another program, which is executed as the CNI specification says (section 4). */
import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { CniError, CODE } from './errors.js';
import type { Attachment, Command, Request } from './request.js';
import { type CniResult, EMPTY, parseResult } from './result.js';

/** A result is some hundred bytes for each address. */
const MAX_RESULT_BYTES = 1024 * 1024;

/** Runs the IPAM plugin, if the configuration has one, in the environment that this program was run in. Throws a CniError. */
export function runIpam(request: Request, command: Command = request.command, of?: Attachment): CniResult {
  const { config, input, env } = request;
  const type = config.ipam?.type ?? '';
  if (type === '') return EMPTY;
  const file = find(type, env['CNI_PATH'] ?? '');
  const attachment = of && { CNI_CONTAINERID: of.containerId, CNI_IFNAME: of.ifname };
  const { status, signal, stdout, error } = spawnSync(file, [], {
    input,
    env: { ...env, ...attachment, CNI_COMMAND: command },
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'inherit'],
    maxBuffer: MAX_RESULT_BYTES,
  });
  // A program that does not read its input is no failure.
  if (error !== undefined && (error as NodeJS.ErrnoException).code !== 'EPIPE')
    throw new CniError(CODE.IO, `the IPAM plugin ${type} cannot be run`, error.message);
  if (status !== 0) throw failure(type, stdout, signal ?? `exit status ${status}`);
  return command === 'ADD' ? parseResult(stdout, `the result of the IPAM plugin ${type}`) : EMPTY;
}

function find(type: string, searchPath: string): string {
  if (type.includes('/'))
    throw new CniError(CODE.INVALID_CONFIG, `ipam.type '${type}' is no name of a program`);
  for (const directory of searchPath.split(path.delimiter).filter((one) => one !== '')) {
    const file = path.join(directory, type);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // The next directory may have it.
    }
  }
  throw new CniError(
    CODE.INVALID_ENVIRONMENT,
    `CNI_PATH has no plugin ${type}`,
    `CNI_PATH is '${searchPath}'`,
  );
}

/** The plugin's own error, which the engine of the containers is to see. */
function failure(type: string, stdout: string, end: string): CniError {
  const said = asObject(stdout);
  const text = (name: string): string => (typeof said[name] === 'string' ? said[name] : '');
  const code = typeof said['code'] === 'number' ? said['code'] : CODE.FAILED;
  return new CniError(code, `IPAM plugin ${type}: ${text('msg') || end}`, text('details'));
}

function asObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
