/** One run of varpd-cni: a request from the environment and standard input, and its result or error on standard output. */
import { readFileSync } from 'node:fs';
import { createClient } from '../control/client.js';
import { DEFAULT_SOCKET } from '../control/messages.js';
import { errorText } from '../model/errors.js';
import { RUN } from './commands.js';
import { asCniError, CniError, CODE } from './errors.js';
import { type Environment, LATEST, readRequest, VERSIONS, versionIn } from './request.js';

interface Terminal {
  readonly env: Environment;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
}

/** An engine waits some minutes for a container; it must hear the reason before it gives up. */
const TIMEOUT_MS = 60_000;
const STDIN = 0;
const DONE = 0;
const FAILED = 1;

/** Resolves to the exit status. Never rejects. */
export async function varpdCni({ env, out, err }: Terminal): Promise<number> {
  let input = '';
  try {
    input = readInput();
    const command = env['CNI_COMMAND'] ?? '';
    if (command === 'VERSION') {
      const supported = { cniVersion: versionIn(input) ?? LATEST, supportedVersions: VERSIONS };
      out(`${JSON.stringify(supported)}\n`);
      return DONE;
    }
    const request = readRequest(command, input, env);
    const socket = request.config.socket ?? env['VARPD_SOCKET'] ?? '';
    const call = createClient(socket === '' ? DEFAULT_SOCKET : socket, { timeoutMs: TIMEOUT_MS });
    const note = (line: string): void => {
      err(`varpd-cni: ${line}\n`);
    };
    out(await RUN[request.command]({ request, call, note }));
    return DONE;
  } catch (error) {
    const { code, message, details } = asCniError(error);
    const said = { cniVersion: versionIn(input) ?? LATEST, code, msg: message };
    out(`${JSON.stringify(details === '' ? said : { ...said, details }, null, 4)}\n`);
    return FAILED;
  }
}

function readInput(): string {
  try {
    return readFileSync(STDIN, 'utf8');
  } catch (error) {
    throw new CniError(CODE.IO, 'standard input cannot be read', errorText(error));
  }
}
