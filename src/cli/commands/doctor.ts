/** doctor: looks at this host, at varpd and at its overlays, and says what is wrong and what to do about it. */
import type { Finding } from '../doctor/finding.js';
import { CommandError, defineCommand, UsageError } from '../command.js';
import { chooseFormat, formatJson, refuseWithJson, SHOW_OPTIONS } from '../show.js';
import type { Column } from '../table.js';
import { printable } from '../text.js';

const COLUMNS: readonly Column<Finding>[] = [
  { name: 'STATUS', width: 7, cell: (row) => row.status },
  { name: 'CODE', width: 20, cell: (row) => row.code },
  { name: 'ABOUT', width: 16, cell: (row) => row.about ?? '--' },
  { name: 'SENTENCE', width: 60, sentence: true, cell: (row) => row.sentence },
  { name: 'ADVICE', width: 40, sentence: true, cell: (row) => row.advice ?? '--' },
];

/** Version of the JSON: a later one may have more members, and none of these changes. */
const JSON_VERSION = 1;

export const command = defineCommand({
  synopsis: 'doctor [--config file] [--probe] [[-p] -o field,... | --json] [overlay]',
  about:
    'Looks at this host, at varpd and at its overlays, all or the one named: a line for each check, with what to do. ' +
    'It changes nothing and, without --probe, sends nothing, and most of it needs no varpd. The exit status is 10 if a check fails.',
  options: [
    {
      name: 'config',
      value: 'file',
      about: "the configuration of varpd; else that of the varpd that runs, else varpd's default",
    },
    { name: 'probe', about: 'send a message to a station of each peer, and see whether it is answered' },
    ...SHOW_OPTIONS,
  ],
  examples: ['doctor', 'doctor overlay0', 'doctor -p -o status,code,sentence', 'doctor --json'],

  async run(args, context) {
    const [overlay, ...more] = args.operands;
    if (more.length > 0) throw new UsageError(`expected one overlay name, got: ${args.operands.join(' ')}`);
    const isJson = args.has('json');
    if (isJson) refuseWithJson(args);
    const isTable = args.has('parsable') || args.has('output');
    const format = isTable ? chooseFormat(args, COLUMNS, context) : asLines;
    // Loaded only here: the help of dladm needs no native module.
    const { examine } = await import('../doctor/examine.js');
    const { socket, version } = context;
    const found = await examine({
      socket,
      version,
      overlay,
      configFile: args.value('config'),
      probes: args.has('probe'),
    });
    if (found === undefined)
      throw new CommandError(`no overlay '${overlay}': varpd has none of that name`, [], 'NOT_FOUND');
    const { findings, observer } = found;
    context.print(
      isJson
        ? formatJson({ v: JSON_VERSION, observer, counts: counts(findings), findings })
        : format(findings),
    );
    if (findings.some(({ status }) => status === 'fail')) context.refute();
  },
});

/** `fail ROUTE overlay0: there is no route to 10.0.0.2 -> ip route add ...` */
function asLines(findings: readonly Finding[]): string {
  return findings
    .map(({ status, code, about, sentence, advice }) => {
      const where = about === null ? '' : `${about}: `;
      const cure = advice === null ? '' : ` -> ${advice}`;
      return `${printable(`${status.padEnd(4)} ${code} ${where}${sentence}${cure}`)}\n`;
    })
    .join('');
}

function counts(findings: readonly Finding[]): Readonly<Record<Finding['status'], number>> {
  const of = (status: Finding['status']): number => findings.filter((one) => one.status === status).length;
  return { ok: of('ok'), warn: of('warn'), fail: of('fail'), skip: of('skip') };
}
