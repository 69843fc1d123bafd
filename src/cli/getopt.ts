/**
 * Options of the command line. Short ones follow POSIX (XBD 12.2): they come first, `-v23` and `-tv 23` are
 * valid, `--` ends them. Long ones are `--vnetid 23` or `--vnetid=23`. Only a repeatable option may be given
 * twice.
 *
 * node:util parseArgs is not used, since it also takes options after operands, lets the last of two win, and
 * has its own messages.
 */
import { Arguments, type Option, UsageError } from './command.js';

/** Throws a UsageError. */
export function getopt(options: readonly Option[], argv: readonly string[]): Arguments {
  const values = new Map<string, string[]>();
  let index = 0;

  const find = (spelled: string, matches: (option: Option) => boolean): Option => {
    const option = options.find(matches);
    if (option === undefined) throw new UsageError(`unrecognized option '${spelled}'`);
    return option;
  };

  const accept = (option: Option, spelled: string, attached: string | undefined): void => {
    if (option.value === undefined && attached !== undefined) {
      throw new UsageError(`option takes no argument ${spelled}`);
    }
    const isLeftOut = option.value === undefined || (option.optional && attached === undefined);
    const value = isLeftOut ? '' : (attached ?? argv.at(index++));
    if (value === undefined) throw new UsageError(`option requires an argument ${spelled}`);
    const earlier = values.get(option.name);
    if (earlier === undefined) values.set(option.name, [value]);
    else if (option.repeatable) earlier.push(value);
    else throw new UsageError(`the option ${spelled} cannot be specified more than once`);
  };

  const long = (word: string): void => {
    const equals = word.indexOf('=');
    const spelled = equals === -1 ? word : word.slice(0, equals);
    const name = spelled.slice(2);
    const option = find(spelled, (candidate) => candidate.name === name || candidate.alias === name);
    accept(option, spelled, equals === -1 ? undefined : word.slice(equals + 1));
  };

  const cluster = (letters: string): void => {
    let rest = letters;
    while (rest !== '') {
      const letter = String.fromCodePoint(rest.codePointAt(0)!);
      rest = rest.slice(letter.length);
      const option = find(`-${letter}`, (candidate) => candidate.short === letter);
      if (option.value === undefined || rest === '') accept(option, `-${letter}`, undefined);
      else {
        accept(option, `-${letter}`, rest);
        return;
      }
    }
  };

  while (index < argv.length && /^-./.test(argv[index])) {
    const word = argv[index++];
    if (word === '--') return new Arguments(values, argv.slice(index), true);
    if (word.startsWith('--')) long(word);
    else cluster(word.slice(1));
  }
  return new Arguments(values, argv.slice(index), false);
}
