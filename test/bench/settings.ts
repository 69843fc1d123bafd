// What the command line says.
import { parseArgs } from 'node:util';

import { FAMILIES, type Family } from '../helpers/tunnels.js';
import type { Matrix } from './matrix.js';
import { KERNEL, OURS, RAW, subjects } from './subjects/index.js';
import type { Subject, Terms } from './subjects/tunnel.js';
import { wires } from './subjects/wire.js';

const ALL = subjects.map(({ name }) => name).join(', ');
const WIRES = wires.map(({ name }) => name).join(', ');
/** On wires, unless others are chosen: the run takes a quarter of an hour then. */
const WIRE_SUBJECTS = [RAW, KERNEL, OURS];
/** IPv6's least (RFC 8200 5) to a TAP's most. */
const MTU_BYTES = { least: 1280, most: 65_521 };
const USAGE = `npm run bench -- [options]        all that is installed, --profile and --targets
  --subjects A,B        only these, out of ${ALL}
  --profile             only where the daemons' time goes in bulk TCP: JavaScript, native, kernel
  --targets             only what does not grow: with 1,000,000 targets, 1,000 ports, 1,000 overlays, beside 10
  --cost                only the time until varpd is ready, and its resident memory, idle and under load
  --mapping             only what a mapping of a million entries costs, and packets while it is read
  --files REF           only what such a mapping costs this tree beside another commit of it, in pairs (--rounds: 6): CPU
                        time when it is read, and when one entry changes
  --plugins             only what a lookup costs in the process of a plugin
  --hostile             only what a guest that does its worst costs another overlay, and its neighbour
  --wires[=A,B]         only TCP, on kinds of wire, out of ${WIRES}
                        (all of them); with it:
    --subjects A,B      (${WIRE_SUBJECTS.join(',')})
    --family A,B        of the underlay, out of ${FAMILIES.join(', ')} (v4)
    --mtu BYTES,BYTES   of the underlay (1500)
  --against REF         only this tree beside another commit of it, in pairs, until the difference is known (--rounds: 40);
                        REF geneve: its VXLAN beside its Geneve; REF capture: with a capture that no frame passes, beside without
  --verify              only carry 1 GB each way over every kind of tunnel, and compare every byte
  --peers               only say what can be compared, and which packages it needs
  --rounds N            how often every subject is measured, at most (5)
  --seconds S           length of each TCP run (2)
  --mtu BYTES           of the underlay (1500)
  --property NAME=VALUE of varpd's overlays; may be given more than once
  --queues N            the same as --property queues=N
  --entries N           of the mapping (1000000)
TCP is iperf3 with CUBIC for every subject, whatever this machine's default is.`;

export const MODES = [
  'profile',
  'targets',
  'cost',
  'mapping',
  'files',
  'plugins',
  'hostile',
  'wires',
  'against',
  'verify',
  'peers',
] as const;
/** `all`: the subjects, then profile and targets; `subjects`: those named. */
export type Mode = (typeof MODES)[number] | 'all' | 'subjects';

/** Where it is not 5. */
const ROUNDS: Readonly<Partial<Record<string, string>>> = { against: '40', files: '6' };

export interface Settings extends Terms {
  readonly mode: Mode;
  readonly rounds: number;
  readonly seconds: number;
  readonly chosen: readonly Subject[];
  /** Of `wires`. */
  readonly matrix: Matrix;
  /** A commit, an encapsulation or `capture`, for `against`; a commit for `files`. */
  readonly against: string;
  /** Of the mapping that \`mapping\` and \`files\` load. */
  readonly mappingEntries: number;
}

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`--${name} wants a whole number above 0, not '${text}'`);
  return Number(text);
}

function mtuBytesOf(text: string): number {
  const bytes = wholeNumber('mtu', text);
  const { least, most } = MTU_BYTES;
  if (bytes < least || bytes > most) throw new Error(`--mtu wants ${least} to ${most} bytes, not ${bytes}`);
  return bytes;
}

/** The values of `--option A,B`, each once. */
const listed = <T>(text: string, read: (word: string) => T): T[] => [...new Set(text.split(','))].map(read);

function known<T>(option: string, candidates: readonly T[], nameOf: (candidate: T) => string) {
  return (name: string): T => {
    const found = candidates.find((candidate) => nameOf(candidate) === name);
    if (found === undefined)
      throw new Error(`--${option} knows ${candidates.map(nameOf).join(', ')}, not '${name}'`);
    return found;
  };
}

const wireNamed = known('wires', wires, ({ name }) => name);
const familyNamed = known('family', FAMILIES, (family): Family => family);

function subjectNamed(name: string): Subject {
  const subject = known('subjects', subjects, (candidate) => candidate.name)(name);
  const missing = subject.missing();
  if (missing !== false) throw new Error(`${name} ${missing}`);
  return subject;
}

/** `--wires` alone has all of them; parseArgs knows no option whose value may be left out. */
const withWires = (args: readonly string[]): string[] =>
  args.map((arg) => (arg === '--wires' ? `--wires=${WIRES.replaceAll(' ', '')}` : arg));

function checkedMatrix(matrix: Matrix): Matrix {
  for (const family of matrix.families)
    for (const { name, families } of matrix.subjects)
      if (!families.includes(family)) throw new Error(`--family ${family}: ${name} runs over IPv4 alone`);
  return matrix;
}

function checkedProperty(text: string): string {
  if (!/^[^=\s]+=\S+$/.test(text)) throw new Error(`--property wants NAME=VALUE, not '${text}'`);
  return text;
}

/** Throws when the arguments are no good. */
export function parseSettings(args: readonly string[]): Settings {
  const { values } = parseArgs({
    args: withWires(args),
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string', default: '2' },
      mtu: { type: 'string', default: '1500' },
      subjects: { type: 'string' },
      family: { type: 'string' },
      property: { type: 'string', multiple: true, default: [] },
      queues: { type: 'string' },
      entries: { type: 'string', default: '1000000' },
      profile: { type: 'boolean', default: false },
      targets: { type: 'boolean', default: false },
      cost: { type: 'boolean', default: false },
      mapping: { type: 'boolean', default: false },
      files: { type: 'string' },
      plugins: { type: 'boolean', default: false },
      hostile: { type: 'boolean', default: false },
      wires: { type: 'string' },
      against: { type: 'string' },
      verify: { type: 'boolean', default: false },
      peers: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const modes = MODES.filter((mode) => values[mode] !== undefined && values[mode] !== false);
  const isOnWires = values.wires !== undefined;
  if (modes.length > 1) throw new Error(`one of ${MODES.map((mode) => `--${mode}`).join(', ')} at a time`);
  if (values.subjects !== undefined && modes.length > 0 && !isOnWires)
    throw new Error(`--subjects goes with --wires or alone, not with --${modes[0]}`);
  if (values.family !== undefined && !isOnWires) throw new Error('--family goes with --wires alone');
  const mtus = listed(values.mtu, mtuBytesOf);
  if (mtus.length > 1 && !isOnWires) throw new Error('--mtu wants one value, but for --wires');
  const chosen = values.subjects === undefined ? undefined : listed(values.subjects, subjectNamed);
  const queues = values.queues === undefined ? [] : [`queues=${values.queues}`];
  return {
    mode: modes.at(0) ?? (chosen === undefined ? 'all' : 'subjects'),
    rounds: wholeNumber('rounds', values.rounds ?? ROUNDS[modes.at(0) ?? ''] ?? '5'),
    against: values.against ?? values.files ?? '',
    seconds: wholeNumber('seconds', values.seconds),
    mtuBytes: mtus[0],
    family: 'v4',
    mappingEntries: wholeNumber('entries', values.entries),
    properties: [...values.property, ...queues].map(checkedProperty),
    chosen: chosen ?? subjects.filter((subject) => subject.missing() === false),
    matrix: checkedMatrix({
      subjects: chosen ?? WIRE_SUBJECTS.map(subjectNamed),
      wires: listed(values.wires ?? wires[0].name, wireNamed),
      families: listed(values.family ?? 'v4', familyNamed),
      mtus,
    }),
  };
}

/** Ends the process when the arguments are no good. */
export function readSettings(args: string[]): Settings {
  try {
    return parseSettings(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}
