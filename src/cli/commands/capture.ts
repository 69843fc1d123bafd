/** capture: frames of an overlay or a VNIC, into a file, to another program, or a line each. */
import type { Socket } from 'node:net';
import type { CaptureInfo } from '../../control/messages.js';
import { MAX_SNAP_BYTES } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import { DROPS } from '../../model/drops.js';
import { counted } from '../../model/sentences.js';
import { parse } from '../../wire/ip.js';
import { CaptureStream } from '../../wire/pcapng-read.js';
import { type CaptureSink, openFile, openOutput, openText, ROW_COLUMNS } from '../capture-sinks.js';
import { type Arguments, attempt, CommandError, defineCommand, UsageError, ValueError } from '../command.js';
import { chooseFormat, formatJsonLine, refuseWithJson, SHOW_OPTIONS } from '../show.js';
import { etherTypeFrom, MAX_VID, requireMac, requireOneOperand, wholeOf } from '../values.js';

type Request = Methods['capture.start']['params'];

/** Time for varpd to send the remaining packets after the request to end. */
const END_MS = 2000;
const MAX_COUNT = Number.MAX_SAFE_INTEGER;

const OPTIONS = [
  { name: 'write', short: 'w', value: 'file', about: 'write pcapng into this file; - is standard output' },
  { name: 'snaplen', short: 's', value: 'bytes', about: 'the most bytes of each packet to capture' },
  { name: 'count', short: 'c', value: 'packets', about: 'end after so many packets' },
  {
    name: 'drops',
    value: 'reason',
    optional: true,
    about: 'only dropped frames, for any reason or for this one',
  },
  { name: 'outer', about: 'write frames of the tunnel with their outer headers, as IP packets' },
  { name: 'segments', about: 'write superframes as the packets that they are cut into' },
  { name: 'mac', value: 'mac', about: 'only from or to this MAC' },
  { name: 'ip', value: 'address', about: 'only from or to this inner IP address, ARP about it too' },
  { name: 'type', value: 'ethertype', about: 'only this EtherType: ipv4, ipv6, arp, or a number, as 0x8902' },
  { name: 'vlan', value: 'vid', about: 'only this VLAN; 0 is none' },
  { name: 'peer', value: 'address', about: 'only frames from or to this underlay address' },
  ...SHOW_OPTIONS,
] as const;

type CaptureArguments = Arguments<(typeof OPTIONS)[number]['name']>;

export const command = defineCommand({
  synopsis:
    'capture [-w file] [-s bytes] [-c packets] [--drops[=reason]] [--outer] [--segments] [--mac mac] [--ip address] ' +
    '[--type ethertype] [--vlan vid] [--peer address] [[-p] -o field,... | --json] overlay|vnic',
  about:
    'Shows frames as they pass, a line each, or writes them as pcapng. A capture of an overlay has the frames of all its ' +
    'ports and of its tunnel; a capture of a VNIC has those of its port. The comment of a packet has its peer, and the ' +
    'reason if the packet was dropped. The interrupt key (SIGINT) ends the capture. dladm then prints how many packets ' +
    'it has captured, and how many were lost because the reader was too slow. The traffic never waits for a capture.',
  options: OPTIONS,
  examples: [
    'capture overlay0',
    'capture -w foo0.pcapng -c 1000 foo0',
    'capture -w - overlay0 | tshark -r -',
    'capture --drops overlay0',
    'capture --outer --peer 10.88.88.70 -w tunnel.pcapng overlay0',
  ],

  async run(args, context) {
    const request = requestOf(args);
    const { name, count = Infinity } = request;
    const sink = await sinkOf(args, context);
    const what = `capture of ${name} failed`;
    const { result, stream } = await attempt(what, context.open('capture.start', request));
    context.warn(`capturing ${name}, until it is interrupted`);
    const reader = new CaptureStream();
    const ending = endOnSignal(stream);
    let packets = 0;
    let isCutOff = false;
    try {
      for await (const chunk of stream as AsyncIterable<Uint8Array>) {
        const news = reader.push(chunk);
        packets += news.length;
        await sink.write(chunk, news, reader.interfaces);
      }
    } catch (error) {
      if (!stream.destroyed || error instanceof CommandError) throw error;
      isCutOff = true;
    } finally {
      ending.forget();
      stream.destroy();
      await sink.close();
    }
    context.warn(`${counted(packets, 'packet')} captured, ${lostText(reader.lost)}`);
    if (ending.wasAsked || packets >= count) return;
    throw new CommandError(whyOver(name, result, reader.hasEnded && !isCutOff));
  },
});

function lostText(lost: number): string {
  return lost === 0 ? '0 lost' : `${lost} lost, because their reader was too slow`;
}

function whyOver(name: string, { overlay }: CaptureInfo, isWhole: boolean): string {
  return isWhole
    ? `the capture of ${name} is over: ${overlay} was deleted`
    : `the capture of ${name} was cut off: varpd has ended or restarted; start it again`;
}

function requestOf(args: CaptureArguments): Request {
  const drops = args.value('drops');
  const reason = args.operands.find((word) => Object.hasOwn(DROPS, word));
  if (drops === '' && reason !== undefined)
    throw new UsageError(`the reason is a part of the option: --drops=${reason}`);
  const typed = {
    snapBytes: wholeOf(args.value('snaplen'), 'snapshot length', 1, MAX_SNAP_BYTES),
    count: wholeOf(args.value('count'), 'number of packets', 1, MAX_COUNT),
    reason: drops === '' ? undefined : drops,
    mac: args.has('mac') ? requireMac(args.value('mac')!) : undefined,
    ip: addressOf(args.value('ip')),
    etherType: etherTypeFrom(args.value('type')),
    vlan: wholeOf(args.value('vlan'), 'VLAN identifier', 0, MAX_VID),
    peer: addressOf(args.value('peer')),
  };
  const given = Object.fromEntries(Object.entries(typed).filter(([, value]) => value !== undefined));
  const name = requireOneOperand(args, 'overlay or vnic');
  const [isOuter, isCut] = [args.has('outer'), args.has('segments')];
  return { name, isDropsOnly: drops !== undefined, isOuter, isCut, ...given };
}

async function sinkOf(
  args: CaptureArguments,
  context: Parameters<typeof command.run>[1],
): Promise<CaptureSink> {
  const file = args.value('write');
  if (args.has('json')) refuseWithJson(args);
  const format = args.has('json') ? undefined : chooseFormat(args, ROW_COLUMNS, context);
  if (file === undefined)
    return openText(format === undefined ? (rows) => rows.map(formatJsonLine).join('') : format);
  const other = (['parsable', 'output', 'json'] as const).find((name) => args.has(name));
  if (other !== undefined) throw new UsageError(`-w and --${other} may not be used together`);
  return file === '-' ? openOutput() : await openFile(file);
}

interface Ending {
  wasAsked: boolean;
  forget(): void;
}

/** SIGINT and SIGTERM ask varpd to end the capture; a second signal ends dladm at once. */
function endOnSignal(stream: Socket): Ending {
  const ending = {
    wasAsked: false,
    forget: () => {
      process.off('SIGINT', ask);
      process.off('SIGTERM', ask);
    },
  };
  const ask = (): void => {
    ending.forget();
    ending.wasAsked = true;
    stream.end();
    setTimeout(() => stream.destroy(), END_MS).unref();
  };
  process.on('SIGINT', ask);
  process.on('SIGTERM', ask);
  return ending;
}

function addressOf(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const address = parse(text);
  if (address === undefined) throw new ValueError(`invalid IP address '${text}'`);
  return address;
}
