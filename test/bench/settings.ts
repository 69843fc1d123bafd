// What the command line says.
import { parseArgs } from 'node:util';

import { subjects } from './subjects/index.js';
import type { Subject, Terms } from './subjects/tunnel.js';

const ALL = subjects.map(({ name }) => name).join(', ');
const USAGE = `npm run bench -- [options]        all that is installed, --profile and --targets
  --only A,B            out of ${ALL}
                        (these alone)
  --profile             only where the daemons' time goes in bulk TCP: JavaScript, native, kernel
  --targets             only what does not grow: with 1,000,000 targets beside 10, with 300 ports beside 10
  --mapping             only what a mapping of a million entries costs, and packets while it is read
  --files REF           only what such a mapping costs this tree beside another commit of it, in pairs (--rounds: 6): CPU
                        time when it is read, and when one entry changes
  --plugins             only what a lookup costs in the process of a plugin
  --hostile             only what a guest that does its worst costs another overlay, and its neighbour
  --wires               only TCP by varpd, the kernel's vxlan and no tunnel, on wires that take whole: tunnel frames, UDP
                        trains, both, neither
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
  /** A commit, an encapsulation or `capture`, for `against`; a commit for `files`. */
  readonly against: string;
  /** Of the mapping that \`mapping\` and \`files\` load. */
  readonly mappingEntries: number;
}

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`--${name} wants a whole number above 0, not '${text}'`);
  return Number(text);
}

function subjectNamed(name: string): Subject {
  const subject = subjects.find((candidate) => candidate.name === name);
  if (subject === undefined) throw new Error(`--only knows ${ALL}, not '${name}'`);
  const missing = subject.missing();
  if (missing !== false) throw new Error(`${name} ${missing}`);
  return subject;
}

function checkedProperty(text: string): string {
  if (!/^[^=\s]+=\S+$/.test(text)) throw new Error(`--property wants NAME=VALUE, not '${text}'`);
  return text;
}

function parse(args: string[]): Settings {
  const { values } = parseArgs({
    args,
    options: {
      rounds: { type: 'string' },
      seconds: { type: 'string', default: '2' },
      mtu: { type: 'string', default: '1500' },
      only: { type: 'string' },
      property: { type: 'string', multiple: true, default: [] },
      queues: { type: 'string' },
      entries: { type: 'string', default: '1000000' },
      profile: { type: 'boolean', default: false },
      targets: { type: 'boolean', default: false },
      mapping: { type: 'boolean', default: false },
      files: { type: 'string' },
      plugins: { type: 'boolean', default: false },
      hostile: { type: 'boolean', default: false },
      wires: { type: 'boolean', default: false },
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
  if (modes.length + (values.only === undefined ? 0 : 1) > 1)
    throw new Error(`one of --only, ${MODES.map((mode) => `--${mode}`).join(', ')} at a time`);
  const queues = values.queues === undefined ? [] : [`queues=${values.queues}`];
  return {
    mode: modes.at(0) ?? (values.only === undefined ? 'all' : 'subjects'),
    rounds: wholeNumber('rounds', values.rounds ?? ROUNDS[modes.at(0) ?? ''] ?? '5'),
    against: values.against ?? values.files ?? '',
    seconds: wholeNumber('seconds', values.seconds),
    mtuBytes: wholeNumber('mtu', values.mtu),
    mappingEntries: wholeNumber('entries', values.entries),
    properties: [...values.property, ...queues].map(checkedProperty),
    chosen:
      values.only?.split(',').map(subjectNamed) ?? subjects.filter((subject) => subject.missing() === false),
  };
}

/** Ends the process when the arguments are no good. */
export function readSettings(args: string[]): Settings {
  try {
    return parse(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}
