// What the command line of `npm run sim` says.
import { parseArgs } from 'node:util';

export const QUESTIONS = ['moves', 'start', 'outage', 'rack', 'rolling', 'memory'] as const;
export type Question = (typeof QUESTIONS)[number];

const USAGE = `npm run sim -- [options]
  --hosts N        hosts of the site (10000)
  --macs N         stations of the site, as many on each host (1000000)
  --seed N         the same seed draws the same numbers (1)
  --only A,B       out of ${QUESTIONS.join(', ')}
  --measure        nothing simulated: 1, 5, 10, 20 and 50 varpds on this machine, in network namespaces (as root)`;

export interface Settings {
  readonly hosts: number;
  readonly macs: number;
  readonly seed: number;
  readonly only: readonly Question[];
  readonly measures: boolean;
}

function wholeNumber(name: string, text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new Error(`--${name} wants a whole number above 0, not '${text}'`);
  return Number(text);
}

function parse(args: string[]): Settings {
  const { values } = parseArgs({
    args,
    options: {
      hosts: { type: 'string', default: '10000' },
      macs: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
      measure: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const only = (values.only?.split(',') ?? QUESTIONS).map((name) => {
    const question = QUESTIONS.find((each) => each === name);
    if (question === undefined) throw new Error(`--only knows ${QUESTIONS.join(', ')}, not '${name}'`);
    return question;
  });
  const hosts = wholeNumber('hosts', values.hosts);
  const macs = wholeNumber('macs', values.macs);
  if (hosts < 100 || macs % hosts !== 0)
    throw new Error('--hosts wants at least 100, and --macs as many for each host');
  return { hosts, macs, seed: wholeNumber('seed', values.seed), only, measures: values.measure };
}

/** Ends the process when the arguments are invalid. */
export function readSettings(args: string[]): Settings {
  try {
    return parse(args);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}
