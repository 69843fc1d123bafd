/**
 * Commands that a datapath thread has received and not yet obeyed. Lists are obeyed in slices, between two
 * looks at the devices, so that a million invalidations delay no frame. An answer sends the frames that wait
 * for it: once a turn has sent enough, further commands to overlays wait for the next turn.
 *
 * Commands to one overlay are obeyed in order: an answer behind a list waits for the end of the list. Other
 * overlays do not wait for it; lists of several overlays take turns, a slice each. Commands about ports and
 * peers do not depend on lists of targets and are obeyed at once. If an overlay is removed, its commands are
 * dropped, except that requests are still replied to.
 */
import { sliceEnd } from '../../../core/tables/target-list.js';
import { type Command, LIST_SLICE, TABLE_COMMANDS, type TableCommand } from '../protocol.js';

/** Obeyed commands that are kept in the list, since moving the others up after each would take long. */
const MAX_DONE = 256;

/** Commands that may wait: those about the target table of an overlay. */
const QUEUED: ReadonlySet<Command['kind']> = new Set(TABLE_COMMANDS);

const isQueued = (command: Command): command is TableCommand => QUEUED.has(command.kind);

/** Commands to one overlay that wait; the first may be partly done. */
interface Waiting {
  readonly commands: TableCommand[];
  /** How many of the commands are done. */
  done: number;
  /** Entries of the next command that are done. */
  entries: number;
}

export class Backlog {
  readonly #obey: (command: Command) => void;
  /** Overlay -> its commands, in the order of turns. */
  readonly #waiting = new Map<number, Waiting>();

  readonly #isSpent: () => boolean;

  /** `isSpent`: whether the commands of this turn have sent as much as they may. */
  constructor(obey: (command: Command) => void, isSpent: () => boolean) {
    this.#obey = obey;
    this.#isSpent = isSpent;
  }

  /** Obeys a command at once. It waits if it is a long list, if others of its overlay wait, or if this turn
   * has no more time. */
  take(command: Command): void {
    if (command.kind === 'begin') while (this.goOn()); // no frame moves before that
    if (!isQueued(command)) {
      this.#obey(command);
      if (command.kind === 'remove-overlay') this.#forget(command.overlay);
      return;
    }
    const waiting = this.#waiting.get(command.overlay);
    if (waiting !== undefined) waiting.commands.push(command);
    else if (endOf(command, 0) >= lengthOf(command) && !this.#isSpent()) this.#obey(command);
    else this.#waiting.set(command.overlay, { commands: [command], done: 0, entries: 0 });
  }

  /** Obeys a little of the waiting commands: a slice of a list, or one other command. Returns whether there
   * is more. */
  goOn(): boolean {
    for (const [overlay, waiting] of this.#waiting) {
      // The overlay's next turn comes after those of the others.
      this.#waiting.delete(overlay);
      const command = waiting.commands[waiting.done];
      const from = waiting.entries;
      waiting.entries = endOf(command, from);
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

/** Returns the number of entries of a list; 1 for any other command. */
function lengthOf(command: TableCommand): number {
  if (command.kind === 'invalidate') return command.macs?.length ?? 1;
  if (command.kind === 'set-targets') return command.list.macs.length;
  return command.kind === 'restore-targets' ? command.targets.length : 1;
}

/** Returns the entry behind the slice that begins at entry `from`. */
function endOf(command: TableCommand, from: number): number {
  return command.kind === 'set-targets' ? sliceEnd(command.list, from, LIST_SLICE) : from + LIST_SLICE;
}

/** Returns the slice that begins at entry `from`. For targets it is counted from the end, since the last is
 * inserted first. */
function sliceOf(command: TableCommand, from: number): TableCommand {
  if (command.kind === 'set-targets') return { ...command, from, end: endOf(command, from) };
  if (lengthOf(command) <= LIST_SLICE) return command;
  if (command.kind === 'invalidate')
    return { ...command, macs: command.macs?.subarray(from, from + LIST_SLICE) };
  if (command.kind !== 'restore-targets') return command;
  const end = command.targets.length - from;
  return { ...command, targets: command.targets.slice(Math.max(0, end - LIST_SLICE), end) };
}
