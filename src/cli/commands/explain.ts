/** explain: what the datapath would do with a frame now, and why. */
import { readFileSync, statSync } from 'node:fs';
import { type ExplainedStep, type Explanation, MAX_EXPLAINED_BYTES } from '../../control/explain-messages.js';
import type { Methods } from '../../control/methods.js';
import { asOverlayError, errorText, OverlayError } from '../../model/errors.js';
import { LINK_TYPE_ETHERNET } from '../../wire/pcapng.js';
import { readCapture } from '../../wire/pcapng-read.js';
import { VNI_MAX } from '../../wire/vxlan.js';
import { type Arguments, attempt, CommandError, defineCommand, UsageError, ValueError } from '../command.js';
import { chooseFormat, formatJson, refuseWithJson, SHOW_OPTIONS } from '../show.js';
import type { Column } from '../table.js';
import { printable } from '../text.js';
import { etherTypeFrom, MAX_VID, parseDecimal, requireOneOperand, wholeOf } from '../values.js';

type Request = Methods['overlay.explain']['params'];

/** Version of the JSON: a later one may have more members, and none of these changes. */
const JSON_VERSION = 1;

const COLUMNS: readonly Column<ExplainedStep>[] = [
  { name: 'STEP', width: 11, cell: (row) => row.step },
  { name: 'VERDICT', width: 8, cell: (row) => row.verdict },
  { name: 'READ', width: 60, sentence: true, cell: (row) => row.read },
  { name: 'RULE', width: 40, sentence: true, cell: (row) => row.rule },
];

const OPTIONS = [
  { name: 'port', short: 'i', value: 'port', about: "the port that sends it; else the overlay's own" },
  { name: 'dst', value: 'mac|address', about: 'its destination; a MAC for an address comes from the plugin' },
  { name: 'src', value: 'mac|address', about: "its source MAC, else the port's; or its source address" },
  { name: 'type', value: 'ethertype', about: 'its EtherType: ipv4, ipv6, arp, or a number, as 0x8902' },
  { name: 'vlan', value: 'vid', about: 'a tag with this VLAN' },
  {
    name: 'size',
    value: 'bytes',
    about: 'its bytes, with the Ethernet header, and no fewer than its headers have; else 98, as of ping',
  },
  { name: 'frame', value: 'hex', about: 'the whole frame, in hexadecimal digits' },
  { name: 'pcap', value: 'file#number', about: 'the frame with this number in a pcapng or pcap file' },
  { name: 'inbound', about: 'the frame comes out of the tunnel; needs --from' },
  { name: 'from', value: 'vtep', about: 'the underlay address that sends it' },
  { name: 'vni', value: 'id', about: 'the VNI in its header; else that of the overlay' },
  ...SHOW_OPTIONS,
] as const;

type ExplainArguments = Arguments<(typeof OPTIONS)[number]['name']>;

export const command = defineCommand({
  synopsis:
    'explain [-i port] [--inbound --from vtep [--vni id]] --dst mac|address [--src mac|address] [--type ethertype] ' +
    '[--vlan vid] [--size bytes] | --frame hex | --pcap file#number [[-p] -o field,... | --json] overlay',
  about:
    'Says what the datapath would do with a frame now: a line for each rule that the frame comes to, with what the rule read, ' +
    'and the end. Nothing is sent, changed or counted. A frame that would wait for the plugin has the plugin asked, for ' +
    'this explanation alone. The exit status is 0 if the frame would pass, and 10 if it would be dropped.',
  options: OPTIONS,
  examples: [
    'explain -i foo0 --dst 02:08:20:00:00:02 overlay0',
    'explain -i foo0 --dst 10.55.55.3 --src 10.55.55.2 --size 1514 overlay0',
    'explain --pcap drops.pcapng#3 overlay0',
    'explain --inbound --from 10.88.88.70 --dst 02:08:20:00:00:01 overlay0',
  ],

  async run(args, context) {
    const isJson = args.has('json');
    if (isJson) refuseWithJson(args);
    const isTable = args.has('parsable') || args.has('output');
    const format = isTable ? chooseFormat(args, COLUMNS, context) : undefined;
    const request = requestOf(args);
    const what = `failed to explain a frame of ${request.name}`;
    const explanation = await attempt(what, context.call('overlay.explain', request));
    if (isJson) context.print(formatJson({ v: JSON_VERSION, ...explanation }));
    else context.print(format === undefined ? asLines(explanation) : format(rowsOf(explanation)));
    if (explanation.outcome === 'drop') context.refute();
  },
});

function requestOf(args: ExplainArguments): Request {
  const name = requireOneOperand(args, 'overlay');
  const kinds = (['dst', 'frame', 'pcap'] as const).filter((one) => args.has(one));
  if (kinds.length !== 1) throw new UsageError('give the frame: one of --dst, --frame and --pcap');
  const parts = (['src', 'type', 'vlan', 'size'] as const).filter((one) => args.has(one));
  if (kinds[0] !== 'dst' && parts.length > 0)
    throw new UsageError(`--${parts[0]} goes with --dst: a whole frame has its own`);
  if (args.has('inbound') !== args.has('from'))
    throw new UsageError(
      '--inbound and --from go together: a frame out of the tunnel has a VTEP that sends it',
    );
  if (args.has('inbound') && args.has('port')) throw new UsageError('-i is for a frame that a port sends');
  if (args.has('vni') && !args.has('inbound')) throw new UsageError('--vni goes with --inbound');
  const typed = {
    port: args.value('port'),
    frame: args.has('pcap') ? frameOf(args.value('pcap')!) : hexOf(args.value('frame')),
    destination: args.value('dst'),
    source: args.value('src'),
    etherType: etherTypeFrom(args.value('type')),
    vlan: wholeOf(args.value('vlan'), 'VLAN identifier', 0, MAX_VID),
    bytes: wholeOf(args.value('size'), 'size', 0, MAX_EXPLAINED_BYTES),
    from: args.value('from'),
    vnetid: wholeOf(args.value('vni'), 'VNI', 0, VNI_MAX),
  };
  const given = Object.fromEntries(Object.entries(typed).filter(([, value]) => value !== undefined));
  return { name, ...given };
}

/** Hexadecimal digits, with what other programs print between them. */
function hexOf(text: string | undefined): string | undefined {
  const digits = text?.replace(/[\s:]/g, '');
  if (digits === undefined || /^(?:[0-9a-f]{2})*$/i.test(digits)) return digits;
  throw new ValueError('invalid frame', ['a frame is hexadecimal digits, two for each byte']);
}

/** The frame `file#number`, counted from 1 as Wireshark does. */
function frameOf(text: string): string {
  const [, file = '', digits = ''] = /^(.*)#([^#]*)$/s.exec(text) ?? [];
  const number = parseDecimal(digits) ?? 0;
  if (file === '' || number < 1)
    throw new ValueError(`invalid frame of a capture '${text}'`, ['expected FILE#NUMBER: drops.pcapng#3']);
  const capture = readCapture(read(file));
  if (capture === undefined) throw new ValueError(`${file} is neither pcapng nor pcap`);
  const packet = capture.packets.at(number - 1);
  const count = capture.packets.length;
  if (packet === undefined) throw new ValueError(`${file} has no packet ${number}, but ${count}`);
  const { interfaceId, data, originalBytes } = packet;
  const linkType = capture.interfaces.at(interfaceId)?.linkType;
  if (linkType !== LINK_TYPE_ETHERNET)
    throw new ValueError(
      `packet ${number} of ${file} is not an Ethernet frame: its link type is ${linkType ?? '?'}`,
    );
  if (originalBytes > data.length)
    throw new ValueError(
      `packet ${number} of ${file} was cut off: ${data.length} of ${originalBytes} bytes; capture with a larger -s`,
    );
  return Buffer.from(data).toString('hex');
}

function read(file: string): Uint8Array {
  try {
    // A device has no end.
    if (statSync(file).isCharacterDevice()) throw new OverlayError('INVALID', 'it is a device, and no file');
    return readFileSync(file);
  } catch (error) {
    throw new CommandError(`failed to read ${file}: ${errorText(error)}`, [], asOverlayError(error).code);
  }
}

function asLines({ frame, steps, sentence }: Explanation): string {
  const lines = steps.map(({ step, verdict, read: found, rule }) => {
    const mark = verdict === 'drop' ? 'drop' : 'ok';
    return `${mark.padEnd(4)} ${step.padEnd(10)} ${found} (${rule})`;
  });
  return [frame, ...lines, sentence].map((line) => `${printable(line)}\n`).join('');
}

/** The end is the last row. */
function rowsOf({ steps, outcome, sentence }: Explanation): readonly ExplainedStep[] {
  return [...steps, { step: 'end', verdict: outcome, read: sentence, rule: '' }];
}
