/**
 * `varpd check-plugin DIR [--resolve MAC] [-p NAME=VALUE]... [--secret NAME=FILE]...`: loads a plugin in a process of its own, as
 * the daemon would, and prints what the daemon would make of it. It needs no daemon and no rights, and works in any directory.
 * It prints no secret: a message of the plugin that has one in it is a problem.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { parseConfig } from '../daemon/config-file.js';
import { Health } from '../daemon/health.js';
import type { Log } from '../daemon/log.js';
import { readSecretFile } from '../daemon/plugins/host/secrets.js';
import { entryOf } from '../daemon/plugins/plugin-entry.js';
import { PluginInstance } from '../daemon/plugins/plugin-host.js';
import { describedPlugin } from '../daemon/plugins/plugin-loader.js';
import { PluginRunner } from '../daemon/plugins/plugin-runner.js';
import { ProcessPlugin } from '../daemon/plugins/plugin-stub.js';
import { Spawner } from '../daemon/plugins/spawner.js';
import { SPAWNER_SOCKET, startSpawner } from '../daemon/process/spawner-start.js';
import { systemErrorText } from '../daemon/system-error.js';
import type { LookupAnswer } from '../datapath/contract.js';
import { asOverlayError, invalidError, OverlayError } from '../model/errors.js';
import { EXIT } from '../model/exit-statuses.js';
import { refuseKind } from '../model/property-kinds.js';
import type { LookupPlugin } from '../plugin/contract.js';
import { endpoint } from '../plugin-test/addresses.js';
import { macOf } from '../plugin-test/frames.js';
import { importProblems } from '../plugin-test/import-probe.js';
import { propertiesOf } from '../plugin-test/options.js';
import { formatEndpoint } from '../wire/ip.js';
import { formatMac } from '../wire/mac.js';

/** The overlay of the check, which exists nowhere. RFC 5737 */
const OVERLAY = 'overlay0';
const LISTEN = '192.0.2.1';
const STRANGER = 0x0200_0000_0001;

export interface CheckOrder {
  readonly directory: string;
  /** `NAME=VALUE` */
  readonly properties: readonly string[];
  /** `NAME=FILE` */
  readonly secrets: readonly string[];
  readonly resolve: string | undefined;
  /** Address that the overlay would listen on; destinations must be of its family. */
  readonly listen: string | undefined;
}

/** Resolves to the exit status: 0, or 10 when something is wrong. Rejects with an OverlayError about the order itself. */
export async function checkPluginIn(order: CheckOrder, print: (text: string) => void): Promise<number> {
  const file = entryOf(order.directory);
  if (file === undefined)
    throw new OverlayError(
      'NOT_FOUND',
      `${order.directory}: no plugin is here: index.js, index.mjs, or a package.json with ` +
        `"varpd": {"plugin": "./dist/index.js"} was expected`,
    );
  const properties = Object.fromEntries(order.properties.map((text) => pair('-p', 'VALUE', text)));
  const secrets = await readSecrets(order.secrets);
  const mac = order.resolve === undefined ? undefined : macOrThrow(order.resolve);
  const directory = mkdtempSync(path.join(tmpdir(), 'varpd-check-'));
  const { hidden, shown } = withoutSecrets(secrets);
  const printed = (text: string): void => {
    print(hidden(text));
  };
  try {
    const work = { file, properties, secrets, mac, listen: order.listen ?? LISTEN, directory };
    const problems = await check(work, printed);
    for (const problem of problems) printed(`problem    ${problem}\n`);
    for (const name of shown)
      printed(`problem    a message has the secret ${name} in it: every user of dladm would see it\n`);
    return problems.length > 0 || shown.size > 0 ? EXIT.NO : EXIT.DONE;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

interface Work {
  readonly file: string;
  readonly properties: Readonly<Record<string, string>>;
  readonly secrets: ReadonlyMap<string, string>;
  readonly mac: number | undefined;
  readonly listen: string;
  /** For the socket of the spawner, and the state of the plugin. */
  readonly directory: string;
}

async function check(work: Work, print: (text: string) => void): Promise<readonly string[]> {
  const { file, directory } = work;
  const lines: string[] = [];
  const keep = (level: string) => (_kind: string, message: string) => {
    if (level !== 'debug') lines.push(`${level} ${message}`);
  };
  const log: Log = { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') };
  const { limits } = parseConfig('', '');
  const socket = path.join(directory, SPAWNER_SOCKET);
  const stateRoot = path.join(directory, 'plugins');
  const spawner = new Spawner({ socket, begin: () => startSpawner({ socket, stateRoot }) });
  const runner = new PluginRunner(file, { spawner, limits: () => limits, log });
  const problems: string[] = [];
  try {
    const plugin = new ProcessPlugin(runner, describedPlugin(file, await runner.describe()));
    print(described(file, plugin));
    problems.push(...(await importProblems(file)));
    if (work.mac !== undefined || Object.keys(work.properties).length + work.secrets.size > 0)
      problems.push(...(await tryOut(plugin, work, log, print)));
  } catch (error) {
    problems.push(...reasons(error, file));
  } finally {
    runner.close();
    spawner.close();
  }
  for (const line of lines) print(`log        ${line}\n`);
  return problems;
}

/** Starts an instance with these properties, and asks it. */
async function tryOut(
  plugin: LookupPlugin,
  { properties, secrets, mac, listen, directory }: Work,
  log: Log,
  print: (text: string) => void,
): Promise<readonly string[]> {
  const health = new Health(OVERLAY, { ...log, warn: () => undefined });
  const limits = parseConfig('', '').limits;
  const served = { overlay: OVERLAY, vnetid: 100, listen: endpoint(listen) };
  const secret = (name: string): Promise<string> => {
    const value = secrets.get(name);
    return value === undefined
      ? Promise.reject(new Error(`there is no secret '${name}': give its file, --secret ${name}=FILE`))
      : Promise.resolve(value);
  };
  const services = {
    log,
    health,
    limits: () => limits,
    reprotect: () => undefined,
    files: { stateDir: () => directory, secret },
  };
  const instance = new PluginInstance(plugin, served, services);
  try {
    await instance.start(propertiesOf(plugin, { properties }, endpoint(listen).ip));
    if (plugin.mode === 'point') {
      const to = await instance.destination();
      print(`answer     every frame goes to ${formatEndpoint(to)}\n`);
    } else if (mac !== undefined) {
      const answer = await askOnce(instance, mac);
      print(`answer     ${formatMac(mac)}: ${answerText(answer)}\n`);
    }
  } finally {
    await instance.stop();
  }
  const { status, details } = health.report();
  return status === 'ONLINE' ? [] : [`the overlay would be ${status}: ${details ?? ''}`];
}

/** The answer to one lookup, which has the effects that it has in the daemon. */
function askOnce(instance: PluginInstance, mac: number): Promise<LookupAnswer> {
  return new Promise((resolve) => {
    instance.attach({
      answer: (_lookup, answer) => {
        resolve(answer);
      },
      announce: () => undefined,
      invalidate: () => undefined,
      setPeers: () => undefined,
      setTargets: () => undefined,
    });
    instance.lookup({ lookup: 1, destinationMac: mac, sourceMac: STRANGER, etherType: 0x0800, vlan: 0 });
  });
}

function answerText(answer: LookupAnswer): string {
  switch (answer.kind) {
    case 'target': {
      const to = answer.to.map(formatEndpoint).join(', ');
      return `${to}, ${answer.ttlMs === Infinity ? 'fresh for ever' : `fresh for ${answer.ttlMs} ms`}`;
    }
    case 'drop':
      return `dropped as ${answer.reason}`;
    case 'reply':
      return 'a reply';
    case 'redirect':
      return `goes to ${formatMac(answer.to)}`;
  }
}

function described(file: string, { name, mode, properties }: LookupPlugin): string {
  const rows = properties.map(
    ({ name: property, type, required, default: fallback, about }) =>
      `property   ${property}: ${type}, ${required ? 'required' : fallback === undefined ? 'optional' : `default ${fallback}`}` +
      `${about === undefined ? '' : `: ${about}`}\n`,
  );
  return `plugin     ${name}, mode ${mode}\nfile       ${file}\n${rows.join('')}`;
}

/** The lines of an error: each property that is wrong has its own. */
function reasons(error: unknown, file: string): readonly string[] {
  const { details, cause } = asOverlayError(error);
  if (details.length > 0 && cause === undefined) return details;
  const reason = systemErrorText(error);
  return [reason.startsWith(file) ? reason : `${file}: ${reason}`];
}

function pair(option: string, what: string, text: string): readonly [string, string] {
  const at = text.indexOf('=');
  if (at < 1) throw invalidError(`${option} ${text}: NAME=${what} was expected`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Name -> secret. Rejects with an OverlayError. */
async function readSecrets(given: readonly string[]): Promise<ReadonlyMap<string, string>> {
  const secrets = new Map<string, string>();
  for (const text of given) {
    const [name, file] = pair('--secret', 'FILE', text);
    const expected = refuseKind('secret', name);
    if (expected !== undefined)
      throw invalidError(`--secret ${text}: expected ${expected}, an equals sign and a file`);
    try {
      secrets.set(name, await readSecretFile(file));
    } catch (error) {
      throw invalidError(`--secret ${name}: ${systemErrorText(error)}`);
    }
  }
  return secrets;
}

/** `hidden` returns a text without the secrets; `shown` has the names of those that a text had. */
function withoutSecrets(secrets: ReadonlyMap<string, string>) {
  const shown = new Set<string>();
  const hidden = (text: string): string => {
    let clean = text;
    for (const [name, value] of secrets) {
      if (!clean.includes(value)) continue;
      shown.add(name);
      clean = clean.replaceAll(value, `(the secret ${name})`);
    }
    return clean;
  };
  return { hidden, shown };
}

function macOrThrow(text: string): number {
  try {
    return macOf(text);
  } catch (error) {
    throw invalidError(`--resolve: ${systemErrorText(error)}`);
  }
}
