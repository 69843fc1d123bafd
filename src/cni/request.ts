/**
 * One call of varpd-cni, checked: the environment and the configuration on standard input (CNI specification 1.1.0,
 * sections 1 and 2).
 */
import * as z from 'zod';
import { errorText } from '../model/errors.js';
import { formatMac, parseMac } from '../wire/mac.js';
import { CniError, CODE } from './errors.js';

export const VERSIONS = ['0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof VERSIONS)[number];
export const LATEST: Version = '1.1.0';

/** Command -> the first version that has it. */
const COMMANDS = {
  ADD: '0.3.0',
  DEL: '0.3.0',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0',
} as const satisfies Readonly<Record<string, Version>>;
export type Command = keyof typeof COMMANDS;

export const isAtLeast = (version: Version, first: Version): boolean =>
  VERSIONS.indexOf(version) >= VERSIONS.indexOf(first);

/** Section 1: `name`, and section 3: the container ID. */
const IDENTIFIER = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
/** A name that Linux takes (net/core/dev.c, dev_valid_name). */
const INTERFACE = /^(?!\.{1,2}$)[^/:\s]{1,15}$/;

const attachments = z.array(z.looseObject({ containerID: z.string(), ifname: z.string() }));
const macs = z.looseObject({ mac: z.string().optional() });

/** Fields that are not known are for other plugins, or for the IPAM plugin. */
const CONFIG = z.looseObject({
  cniVersion: z.string(),
  name: z
    .string()
    .regex(IDENTIFIER, 'expected letters, digits, "_", "." and "-", behind a letter or a digit'),
  overlay: z.string().min(1),
  socket: z.string().min(1).optional(),
  vid: z.int().min(1).max(4094).optional(),
  mac: z.string().optional(),
  mtu: z.int().min(68).max(65535).optional(), // RFC 791 3.2
  protection: z.array(z.string()).default([]),
  ipam: z.looseObject({ type: z.string().optional() }).optional(),
  dns: z.looseObject({}).optional(),
  args: z.looseObject({ cni: macs.optional() }).optional(),
  runtimeConfig: macs.optional(),
  prevResult: z.unknown().optional(),
  'cni.dev/valid-attachments': attachments.optional(),
  // A mistake of specification 1.1.0, which libcni knows: it gives both (containernetworking/cni, issue 1101).
  'cni.dev/attachments': attachments.optional(),
});
export type Config = z.infer<typeof CONFIG>;

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Request {
  readonly command: Command;
  readonly version: Version;
  readonly config: Config;
  /** The configuration as it came, for the IPAM plugin. */
  readonly input: string;
  readonly env: Environment;
}

/** An attachment of a container to the network. */
export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
}

/** Returns the version in a configuration, as far as it can be read. */
export function versionIn(input: string): string | undefined {
  try {
    const value: unknown = JSON.parse(input);
    const isObject = typeof value === 'object' && value !== null && 'cniVersion' in value;
    return isObject && typeof value.cniVersion === 'string' ? value.cniVersion : undefined;
  } catch {
    return undefined;
  }
}

/** Throws a CniError. */
export function readRequest(command: string, input: string, env: Environment): Request {
  if (!isCommand(command))
    throw new CniError(CODE.INVALID_ENVIRONMENT, 'invalid CNI_COMMAND', `there is no command '${command}'`);
  let value: unknown;
  try {
    value = JSON.parse(input);
  } catch (error) {
    throw new CniError(CODE.DECODE, 'the network configuration cannot be decoded', errorText(error));
  }
  const version = VERSIONS.find((one) => one === versionIn(input));
  if (version === undefined || !isAtLeast(version, COMMANDS[command]))
    throw new CniError(
      CODE.INCOMPATIBLE_VERSION,
      'incompatible CNI version',
      version === undefined
        ? `cniVersion ${JSON.stringify(versionIn(input))} is not supported, expected one of ${VERSIONS.join(', ')}`
        : `${command} needs cniVersion ${COMMANDS[command]} or newer, and the configuration has ${version}`,
    );
  const parsed = CONFIG.safeParse(value);
  if (!parsed.success) {
    const lines = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new CniError(CODE.INVALID_CONFIG, 'invalid network configuration', lines.join('; '));
  }
  return { command, version, config: parsed.data, input, env };
}

const isCommand = (command: string): command is Command => Object.hasOwn(COMMANDS, command);

/** Throws a CniError that names every variable that is not valid. */
export function needAttachment(env: Environment): Attachment {
  const { CNI_CONTAINERID: containerId = '', CNI_IFNAME: ifname = '' } = env;
  const invalid = [
    ...(IDENTIFIER.test(containerId) ? [] : ['CNI_CONTAINERID']),
    ...(INTERFACE.test(ifname) ? [] : ['CNI_IFNAME']),
  ];
  if (invalid.length > 0)
    throw new CniError(
      CODE.INVALID_ENVIRONMENT,
      `missing or invalid: ${invalid.join(', ')}`,
      'CNI_CONTAINERID has letters, digits, "_", "." and "-", behind a letter or a digit; CNI_IFNAME is a name of at most 15 ' +
        'characters without "/", ":" and blanks',
    );
  return { containerId, ifname };
}

/**
 * The MAC that was asked for: by the capability `mac`, by `args`, by CNI_ARGS, or by the configuration. Throws a CniError
 * when it is not valid.
 */
export function wantedMac({ config, env }: Request): string | undefined {
  const fromArgs = /(?:^|;)MAC=([^;]*)/.exec(env['CNI_ARGS'] ?? '')?.at(1);
  const given = config.runtimeConfig?.mac ?? config.args?.cni?.mac ?? fromArgs ?? config.mac;
  // An engine that was given no MAC may write an empty one.
  if (given === undefined || given === '') return undefined;
  const mac = parseMac(given);
  if (mac === undefined) throw new CniError(CODE.INVALID_CONFIG, `'${given}' is no MAC address`);
  return formatMac(mac);
}
