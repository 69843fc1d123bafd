/** probe: loopback messages through the tunnel, to the varpd at the other end, and what comes back. */
import { MAX_PROBE_BYTES, MAX_PROBES, MIN_PROBE_BYTES, type ProbeInfo } from '../../control/messages.js';
import { formatMac, parseMac } from '../../wire/mac.js';
import { attempt, defineCommand, UsageError } from '../command.js';
import { answeredPaths, COLUMNS, rowsOf, textOf } from '../probe-text.js';
import { chooseFormat, formatJson, refuseWithJson, SHOW_OPTIONS } from '../show.js';
import { MAX_VID, wholeOf } from '../values.js';

/** Version of the JSON: a later one may have more members, and none of these changes. */
const JSON_VERSION = 1;

export const command = defineCommand({
  synopsis:
    'probe [-s bytes] [-c count] [--mtu] [--paths] [-i port] [--vlan vid] [[-p] -o field,... | --json] overlay mac|ip',
  about:
    'Sends loopback messages (IEEE 802.1Q, ITU-T Y.1731) through the tunnel to a station of another host. The varpd ' +
    'there answers in the name of its port. A station that does not answer them is asked itself, by ARP or neighbour ' +
    'solicitation. The exit status is 10 if there was no answer, or none on one of the paths.',
  options: [
    {
      name: 'size',
      short: 's',
      value: 'bytes',
      about: 'size of the packets, as `mtu` counts it; 84 if not given',
    },
    {
      name: 'count',
      short: 'c',
      value: 'count',
      about: 'so many messages, one every 100 ms; 5 if not given',
    },
    { name: 'mtu', about: 'find the largest packet that arrives' },
    { name: 'paths', about: 'try each source port, and so each path of the underlay, by itself' },
    {
      name: 'port',
      short: 'i',
      value: 'port',
      about:
        'send from this VNIC; else from the port of the overlay, or from a VNIC if the mapping has that alone',
    },
    { name: 'vlan', value: 'vid', about: 'in this VLAN; a VNIC with a VLAN needs no such option' },
    ...SHOW_OPTIONS,
  ],
  examples: [
    'probe overlay0 02:08:20:0:0:2',
    'probe -i foo0 overlay0 10.55.55.3',
    'probe --mtu overlay0 10.55.55.3',
    'probe --paths -p -o sourceport,received overlay0 02:08:20:0:0:2',
  ],

  async run(args, context) {
    const [name, station] = args.operands;
    if (args.operands.length !== 2)
      throw new UsageError(`expected an overlay and a MAC or IP address, got: ${args.operands.join(' ')}`);
    const isJson = args.has('json');
    if (isJson) refuseWithJson(args);
    const isTable = args.has('parsable') || args.has('output');
    const format = isTable ? chooseFormat(args, COLUMNS, context) : undefined;
    const mac = parseMac(station);
    const given = {
      packetBytes: wholeOf(args.value('size'), 'packet size', MIN_PROBE_BYTES, MAX_PROBE_BYTES),
      count: wholeOf(args.value('count'), 'number of messages', 1, MAX_PROBES),
      vlan: wholeOf(args.value('vlan'), 'VLAN identifier', 1, MAX_VID),
      port: args.value('port'),
    };
    const params = {
      name,
      target: mac === undefined ? station : formatMac(mac),
      isMtuSought: args.has('mtu'),
      isEachPath: args.has('paths'),
      ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    };
    const probe = await attempt(`probe of ${name} failed`, context.call('overlay.probe', params));
    context.print(output(probe));
    const isAnswered =
      probe.received > 0 && (!params.isEachPath || answeredPaths(probe) === probe.paths?.length);
    if (!isAnswered) context.refute();

    function output(found: ProbeInfo): string {
      if (isJson) return formatJson({ v: JSON_VERSION, ...found });
      return format === undefined ? textOf(found, params) : format(rowsOf(found));
    }
  },
});
