/** Usage lines and help texts, made from the definitions of the commands. */
import type { Command, Option } from './command.js';
import { line, wrap } from './text.js';

const INDENT = '    ';
const LEFT_COLUMN = 32;
const MAX_COLUMNS = 110;

export function usageLine({ synopsis }: Command): string {
  return `usage: dladm ${synopsis}\n`;
}

export function generalUsage(commands: readonly Command[]): string {
  const lines = commands.map(({ synopsis }) => `${INDENT}${synopsis}\n`);
  return `usage: dladm [--socket path] subcommand args...\n${lines.join('')}`;
}

export function generalHelp(commands: readonly Command[], globals: readonly Option[]): string {
  return [
    generalUsage(commands),
    'dladm creates, changes and shows the overlay networks and VNICs of varpd.\n' +
      "'dladm subcommand --help' describes a subcommand.\n",
    optionTable(globals),
  ].join('\n');
}

export function commandHelp(command: Command, globals: readonly Option[]): string {
  const { about, options, examples } = command;
  return [
    usageLine(command),
    `${wrap(about, MAX_COLUMNS).join('\n')}\n`,
    optionTable([...options, ...globals]),
    `example${examples.length > 1 ? 's' : ''}:\n` +
      examples.map((example) => `${INDENT}dladm ${example}\n`).join(''),
  ].join('\n');
}

function optionTable(options: readonly Option[]): string {
  return options.map((option) => `${line([spelling(option), option.about], [LEFT_COLUMN])}\n`).join('');
}

/** `  -e, --encap encap`, or `      --json`, or `      --drops[=reason]` */
function spelling({ name, short, value, optional }: Option): string {
  const argument = value === undefined ? '' : optional ? `[=${value}]` : ` ${value}`;
  return `  ${short === undefined ? '    ' : `-${short}, `}--${name}${argument}`;
}
