/**
 * The commands that a datapath thread has been given and has not obeyed: lists are obeyed a slice at a time, between two
 * looks at the devices, so that a million invalidations hold up no frame. An answer sends what has waited for it: once a turn
 * has sent enough, what overlays are told waits for the next one.
 *
 * What is said to one overlay is obeyed in its order: an answer that comes behind a list waits for the end of it. Other
 * overlays do not wait for it; of several lists each has a slice in turn. Ports and peers are nothing that a list of
 * targets is about, and are seen to at once. With an overlay its lists are gone, and who asked for something is told so.
 */
import { type Command, LIST_SLICE, TABLE_COMMANDS, type TableCommand } from '../protocol.js';

/** Commands that are kept when they are done: to move the others up each time would take long. */
const MAX_DONE = 256;

/** What waits for its turn: about what an overlay knows. */
const QUEUED: ReadonlySet<Command['kind']> = new Set(TABLE_COMMANDS);

const isQueued = (command: Command): command is TableCommand => QUEUED.has(command.kind);

/** What one overlay waits for; the first of it may be under way. */
interface Waiting {
  readonly commands: TableCommand[];
  /** How many of these are done. */
  done: number;
  /** Entries of the next one that are done. */
  entries: number;
}

export class Backlog {
  readonly #obey: (command: Command) => void;
  /** By overlay, in the order of their turns. */
  readonly #waiting = new Map<number, Waiting>();

  readonly #isSpent: () => boolean;

  /** `isSpent`: what was obeyed in this turn has sent as much as it may. */
  constructor(obey: (command: Command) => void, isSpent: () => boolean) {
    this.#obey = obey;
    this.#isSpent = isSpent;
  }

  /** Obeyed at once, unless it is a long list, has something before it, or there is no more time for it in this turn. */
  take(command: Command): void {
    if (command.kind === 'begin') while (this.goOn()); // no frame moves before that
    if (!isQueued(command)) {
      this.#obey(command);
      if (command.kind === 'remove-overlay') this.#forget(command.overlay);
      return;
    }
    const waiting = this.#waiting.get(command.overlay);
    if (waiting !== undefined) waiting.commands.push(command);
    else if (lengthOf(command) <= LIST_SLICE && !this.#isSpent()) this.#obey(command);
    else this.#waiting.set(command.overlay, { commands: [command], done: 0, entries: 0 });
  }

  /** Obeys a little of what waits: a slice of a list, or one other command. Whether there is more. */
  goOn(): boolean {
    for (const [overlay, waiting] of this.#waiting) {
      // Its next turn comes after those of the others.
      this.#waiting.delete(overlay);
      const command = waiting.commands[waiting.done];
      const from = waiting.entries;
      waiting.entries += LIST_SLICE;
      if (waiting.entries >= lengthOf(command)) {
        waiting.entries = 0;
        waiting.done++;
      }
      if (waiting.done === MAX_DONE) {
        waiting.commands.splice(0, MAX_DONE);
        waiting.done = 0;
      }
      if (waiting.done < waiting.commands.length) this.#waiting.set(overlay, waiting);
      this.#obey(sliceOf(command, from));
      break;
    }
    return this.#waiting.size > 0;
  }

  #forget(overlay: number): void {
    const waiting = this.#waiting.get(overlay);
    this.#waiting.delete(overlay);
    for (const command of waiting?.commands.slice(waiting.done) ?? [])
      if ('reply' in command) this.#obey(command);
  }
}

/** Entries of a list; 1 of what is none. */
function lengthOf(command: TableCommand): number {
  if (command.kind === 'invalidate') return command.macs?.length ?? 1;
  return command.kind === 'restore-targets' ? command.targets.length : 1;
}

/** The slice that begins at the entry `from`; of targets it is counted from the end, since the last is put in first. */
function sliceOf(command: TableCommand, from: number): TableCommand {
  if (lengthOf(command) <= LIST_SLICE) return command;
  if (command.kind === 'invalidate')
    return { ...command, macs: command.macs?.subarray(from, from + LIST_SLICE) };
  if (command.kind !== 'restore-targets') return command;
  const end = command.targets.length - from;
  return { ...command, targets: command.targets.slice(Math.max(0, end - LIST_SLICE), end) };
}
