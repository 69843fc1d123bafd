// What the command line says.
import { parseArgs } from 'node:util';

import { subjects } from './subjects/index.js';
import type { Subject, Terms } from './subjects/tunnel.js';

const ALL = subjects.map(({ name }) => name).join(', ');
const USAGE = `npm run bench -- [options]
  --rounds N            how often every subject is measured (5)
  --seconds S           length of each TCP run (2)
  --mtu BYTES           of the underlay (1500)
  --only A,B            out of ${ALL} (all that are installed)
  --property NAME=VALUE of varpd's overlays; may be given more than once
  --queues N            the same as --property queues=N
npm run bench -- --mapping [--entries N]
  what a mapping of N entries (1000000) costs the plugin files, and packets while it is read`;

export interface Settings extends Terms {
  readonly rounds: number;
  readonly seconds: number;
  readonly chosen: readonly Subject[];
  /** Instead of all that: entries of a mapping that is loaded. */
  readonly mappingEntries: number | undefined;
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
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '2' },
      mtu: { type: 'string', default: '1500' },
      only: { type: 'string' },
      property: { type: 'string', multiple: true, default: [] },
      queues: { type: 'string' },
      mapping: { type: 'boolean', default: false },
      entries: { type: 'string', default: '1000000' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const queues = values.queues === undefined ? [] : [`queues=${values.queues}`];
  return {
    rounds: wholeNumber('rounds', values.rounds),
    seconds: wholeNumber('seconds', values.seconds),
    mtuBytes: wholeNumber('mtu', values.mtu),
    mappingEntries: values.mapping ? wholeNumber('entries', values.entries) : undefined,
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
