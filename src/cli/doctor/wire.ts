/** Looks at the links that the underlay uses, down to the network cards: state, speed, offloads, transceiver. */
import { linkInfo } from '../../dgram-extra/index.js';
import { type Feature, type Module, parseFeatures, parseModule } from './ethtool.js';
import { fail, ok, type Plain, skip, warn } from './finding.js';
import { namesIn, outputOf, statOf, textOf } from './system.js';

export interface WireFacts {
  readonly name: string;
  readonly state: 'good' | 'down' | 'no carrier' | 'gone';
  /** A device of the hardware, or of a virtual machine's. */
  readonly isHardware: boolean;
  /** Undefined: the driver does not say. */
  readonly speedMbit: number | undefined;
  readonly duplex: string | undefined;
  /** The text says why they are not known. */
  readonly features: ReadonlyMap<string, Feature> | string;
  readonly module: Module | string;
}

/** Below this a link is most often one that has negotiated badly. */
const MIN_SPEED_MBIT = 1000;

/** A link, and those below it: of a VLAN or macvlan, a bond, a bridge. Of a bridge, network cards alone. */
export function withLower(name: string): string[] {
  const lower = (namesIn(`/sys/class/net/${name}`) ?? [])
    .filter((entry) => entry.startsWith('lower_'))
    .map((entry) => entry.slice('lower_'.length));
  const isBridge = statOf(`/sys/class/net/${name}/bridge`) !== undefined;
  return [name, ...lower.filter((one) => !isBridge || isHardware(one)).flatMap(withLower)];
}

const isHardware = (name: string): boolean => statOf(`/sys/class/net/${name}/device`) !== undefined;

export async function readWire(name: string): Promise<WireFacts> {
  const link = linkInfo(name);
  const read = (file: string): string | undefined => textOf(`/sys/class/net/${name}/${file}`)?.trim();
  const [features, module] = await Promise.all([
    outputOf('ethtool', ['-k', name]),
    isHardware(name) ? outputOf('ethtool', ['-m', name]) : undefined,
  ]);
  const speed = Number(read('speed') ?? -1);
  const duplex = read('duplex');
  return {
    name,
    state: link === undefined ? 'gone' : !link.up ? 'down' : link.carrier ? 'good' : 'no carrier',
    isHardware: isHardware(name),
    speedMbit: speed > 0 ? speed : undefined,
    duplex: duplex === 'unknown' ? undefined : duplex,
    features: features.state === 'done' ? parseFeatures(features.text) : features.text,
    module:
      module === undefined
        ? 'it is a link of the kernel, without a transceiver'
        : ((module.state === 'done' ? parseModule(module.text) : undefined) ??
          (module.state === 'done' ? 'the driver does not tell of a transceiver' : module.text)),
  };
}

export function checkWire(facts: WireFacts): Plain[] {
  const first = stateFinding(facts);
  const rest = [
    'SPEED',
    'DUPLEX',
    'UDP-TRAINS',
    'TUNNEL-SEGMENTATION',
    'RECEIVE-COALESCING',
    'TRANSCEIVER',
  ] as const;
  if (facts.state === 'gone') return [first, ...rest.map((code) => skip(code, 'there is no such link'))];
  return [
    first,
    speed(facts),
    duplex(facts),
    trains(facts),
    tunnels(facts),
    coalescing(facts),
    transceiver(facts),
  ];
}

function stateFinding({ state, name }: WireFacts): Plain {
  switch (state) {
    case 'good':
      return ok('LINK', 'it is up and has a carrier');
    case 'down':
      return fail('LINK', 'it is down', `ip link set ${name} up`);
    case 'no carrier':
      return fail(
        'LINK',
        'it has no carrier',
        'look at the cable, the transceiver and the port of the switch',
      );
    case 'gone':
      return fail('LINK', 'it is gone', 'is the driver loaded? dmesg');
  }
}

function speed({ speedMbit, name }: WireFacts): Plain {
  if (speedMbit === undefined) return skip('SPEED', 'the driver does not tell');
  return speedMbit >= MIN_SPEED_MBIT
    ? ok('SPEED', `its speed is ${speedMbit} Mbit/s`)
    : warn(
        'SPEED',
        `its speed is ${speedMbit} Mbit/s`,
        `look at cable and switch; ethtool ${name} shows what both ends offer`,
      );
}

function duplex({ duplex: found, name }: WireFacts): Plain {
  if (found === undefined) return skip('DUPLEX', 'the driver does not tell');
  return found === 'full'
    ? ok('DUPLEX', 'it is full duplex')
    : warn(
        'DUPLEX',
        `it is ${found} duplex: frames are lost under load`,
        `ethtool -s ${name} autoneg on, at both ends`,
      );
}

const ON_WIRES = 'docs/performance.md has the kinds of wires';

function trains({ features, name }: WireFacts): Plain {
  if (typeof features === 'string') return skip('UDP-TRAINS', features);
  const feature = features.get('tx-udp-segmentation');
  if (feature?.isOn === true) return ok('UDP-TRAINS', 'it takes UDP trains whole');
  return feature === undefined || feature.isFixed
    ? ok('UDP-TRAINS', `it cannot take UDP trains: the kernel cuts them before (${ON_WIRES})`)
    : warn(
        'UDP-TRAINS',
        `UDP trains are switched off (tx-udp-segmentation): the kernel cuts them before, which is slower`,
        `ethtool -K ${name} tx-udp-segmentation on`,
      );
}

function tunnels({ features }: WireFacts): Plain {
  if (typeof features === 'string') return skip('TUNNEL-SEGMENTATION', features);
  const does = features.get('tx-udp_tnl-segmentation')?.isOn === true ? 'takes' : 'does not take';
  return ok(
    'TUNNEL-SEGMENTATION',
    `it ${does} tunnel frames of the kernel whole; varpd sends none (${ON_WIRES})`,
  );
}

function coalescing({ features, name, isHardware: isCard }: WireFacts): Plain {
  if (typeof features === 'string') return skip('RECEIVE-COALESCING', features);
  const feature = features.get('generic-receive-offload');
  if (feature?.isOn === true) return ok('RECEIVE-COALESCING', 'it puts together what arrives cut');
  return isCard && feature?.isFixed === false
    ? warn(
        'RECEIVE-COALESCING',
        'generic-receive-offload is switched off: receiving is slower',
        `ethtool -K ${name} gro on`,
      )
    : ok('RECEIVE-COALESCING', 'it is a link of the kernel, on which nothing arrives cut');
}

function transceiver({ module, name }: WireFacts): Plain {
  if (typeof module === 'string') return skip('TRANSCEIVER', module);
  const { kind, alarms, warnings, readings } = module;
  const values = [...readings].map(([reading, value]) => `${reading} ${value}`).join(', ');
  const said = `${kind}${values === '' ? '' : `: ${values}`}`;
  const advice = `ethtool -m ${name}; clean or replace the fibre or the module`;
  if (alarms.length > 0) return fail('TRANSCEIVER', `alarm: ${alarms.join(', ')} (${said})`, advice);
  if (warnings.length > 0) return warn('TRANSCEIVER', `warning: ${warnings.join(', ')} (${said})`, advice);
  return ok('TRANSCEIVER', said);
}
