/** watch: what changes in varpd, a line each, until it is ended. */
import { openWatch, type Watch } from '../../control/watch-client.js';
import { WATCH_KINDS } from '../../control/watch-messages.js';
import { askAgain } from '../again.js';
import { type Arguments, attempt, type Context, defineCommand, ValueError } from '../command.js';
import { formatJsonLine } from '../show.js';
import { printable } from '../text.js';
import { wholeOf } from '../values.js';
import { beginText, eventLines } from '../watch-text.js';

const FAILED = 'failed to watch';
/** Version of the shape of --json (docs/control.md). */
const SHAPE = 1;
const MAX_COUNT = Number.MAX_SAFE_INTEGER;

const OPTIONS = [
  { name: 'kinds', short: 'k', value: 'kind,...', about: `only these: ${WATCH_KINDS.join(', ')}` },
  { name: 'count', short: 'c', value: 'events', about: 'end after so many' },
  { name: 'json', about: 'everything that is known, an object a line' },
] as const;

type WatchArguments = Arguments<(typeof OPTIONS)[number]['name']>;

export const command = defineCommand({
  synopsis: 'watch [-k kind,...] [-c events] [--json] [overlay...]',
  about:
    'Says what changes, a line each, until it is ended: the state of overlays, those named or all, their targets, their counters every two seconds, and the log. ' +
    'A reader that is too slow is told what it has missed. When varpd ends or restarts, watch waits for it and goes on.',
  options: OPTIONS,
  examples: ['watch', 'watch -k state,log', 'watch --json -k counters overlay0'],

  async run(args, context) {
    const params = {
      ...(args.has('kinds') && { kinds: kindsOf(args.value('kinds')!) }),
      ...(args.operands.length > 0 && { overlays: [...args.operands] }),
    };
    const most = wholeOf(args.value('count'), 'number of events', 1, MAX_COUNT) ?? MAX_COUNT;
    const open = (): Promise<Watch> => openWatch(context.open, params);
    let watch = await attempt(FAILED, open());
    for (let count = 0; ;) {
      printBegin(watch, args, context);
      for await (const event of watch.events) {
        if (args.has('json')) context.print(formatJsonLine({ v: SHAPE, ...event }));
        else for (const line of eventLines(event)) context.print(`${printable(line)}\n`);
        count++;
        if (count >= most) return;
      }
      context.warn(`varpd at ${context.socket} has ended the watch: trying again`);
      watch = await attempt(FAILED, askAgain(open));
    }
  },
});

function printBegin({ info }: Watch, args: WatchArguments, { print }: Context): void {
  if (args.has('json'))
    print(formatJsonLine({ v: SHAPE, kind: 'begin', at: new Date().toISOString(), ...info }));
  else print(`${printable(beginText(info))}\n`);
}

function kindsOf(text: string): string[] {
  const kinds = text.split(',');
  const unknown = kinds.filter((kind) => !WATCH_KINDS.some((known) => known === kind));
  if (unknown.length === 0) return kinds;
  throw new ValueError(`unknown kind '${unknown[0]}'`, [`kinds are: ${WATCH_KINDS.join(',')}`]);
}
