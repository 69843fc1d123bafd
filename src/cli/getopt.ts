/**
 * Options of the command line. Short ones follow POSIX (XBD 12.2): `-v23` and `-tv 23` are valid, `--` ends them. Long
 * ones are `--vnetid 23` or `--vnetid=23`. As with GNU programs options may stand after operands. Only a repeatable
 * option may be given twice.
 *
 * node:util parseArgs is not used, since it lets the last of two win, takes an attached value of an option as the only
 * one that may begin with `-`, and has its own messages.
 */
import { didYouMean } from '../model/suggest.js';
import { Arguments, type Option, UsageError } from './command.js';

/**
 * Throws a UsageError. `leading`: only options before the first operand are read; all words from there on are operands.
 */
export function getopt(options: readonly Option[], argv: readonly string[], leading?: 'leading'): Arguments {
  const operands: string[] = [];
  const values = new Map<string, string[]>();
  let index = 0;

  const find = (spelled: string, matches: (option: Option) => boolean): Option => {
    const option = options.find(matches);
    if (option === undefined)
      throw new UsageError(`unrecognized option '${spelled}'`, hintFor(spelled, options));
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

  while (index < argv.length) {
    const word = argv[index++];
    if (word === '--') return new Arguments(values, [...operands, ...argv.slice(index)]);
    if (word.startsWith('--')) long(word);
    else if (/^-./.test(word)) cluster(word.slice(1));
    else if (leading === undefined) operands.push(word);
    else return new Arguments(values, argv.slice(index - 1));
  }
  return new Arguments(values, operands);
}

/** A single letter is near every other one, so only long options have a hint. */
function hintFor(spelled: string, options: readonly Option[]): string | null {
  const names = options.flatMap(({ name, alias }) => (alias === undefined ? [name] : [name, alias]));
  const known = names.map((name) => `--${name}`);
  return (spelled.startsWith('--') && didYouMean(spelled, known)) || null;
}
