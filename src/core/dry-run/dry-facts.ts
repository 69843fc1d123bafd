/**
 * The facts that decide about a frame, asked of the real tables by the functions that the datapath uses itself. They
 * go with a dry run (dry-run.ts), to say why the frame would go where it goes.
 */
import * as ethernet from '../../wire/ethernet.js';
import type { Endpoint } from '../../wire/ip.js';
import { fromHalves, highOf, lowOf, type MacAddress } from '../../wire/mac.js';
import type { Protection } from '../../model/link-properties.js';
import { type DryFrame, type DryRun, dryRun, endpointOf } from './dry-run.js';
import { NONE } from '../tables/mac-index.js';
import type { Overlay, OverlayOptions } from '../overlay.js';
import type { Port } from '../port.js';
import { describeTargets, type TableRow } from '../tables/target-rows.js';
import { NOWHERE } from '../tables/target-table.js';

/** Destinations that are looked at: each costs a question to the kernel. */
const MAX_PATHS = 8;

export interface PortFacts {
  readonly name: string;
  readonly mac: MacAddress;
  readonly vid: number;
  readonly own: boolean;
  readonly protection: readonly Protection[];
  /** Its interface is down. */
  readonly isDown: boolean;
  /** A station with its MAC has sent lately, and none has sent from elsewhere since. */
  readonly isAlive: boolean;
  /** The last frame from its MAC has come out of the tunnel. */
  readonly isElsewhere: boolean;
}

export interface PathFacts {
  readonly to: Endpoint;
  /** Bytes of IP packet that ICMP or a route allows; Infinity if neither says so. */
  readonly pathMtuBytes: number;
  /** Bytes of IP packet that the device of the route carries; negative without a route. */
  readonly routeMtuBytes: number;
  /** Its route leads back into the overlay. */
  readonly isLoop: boolean;
}

export interface DryFacts {
  readonly settings: Pick<OverlayOptions, 'mtuBytes' | 'listen' | 'acceptAny' | 'strictSource' | 'carryTags'>;
  /** The port that sends the frame; undefined also if there is no such port. */
  readonly port: PortFacts | undefined;
  /** The port with the destination MAC. */
  readonly holder: PortFacts | undefined;
  /** The entry of the destination MAC; of the source MAC for a frame out of the tunnel. */
  readonly target: TableRow | undefined;
  /** Mode point: a station with the destination MAC is behind the own port. */
  readonly isStation: boolean;
  /** Mode point: the destination of every frame that is not local. */
  readonly point: Endpoint | undefined;
  /** A frame out of the tunnel: its sender is a peer. */
  readonly isPeer: boolean;
  readonly paths: readonly PathFacts[];
}

export interface Explained extends DryRun {
  readonly facts: DryFacts;
}

/** Runs a frame dry, and reads what its way depends on. */
export function explain(overlay: Overlay, dry: DryFrame): Explained {
  return { ...dryRun(overlay, dry), facts: factsOf(overlay, dry) };
}

function factsOf(overlay: Overlay, { frame, from, answers }: DryFrame): DryFacts {
  const { ports, point, shared, stations } = overlay;
  const isWhole = frame.length >= ethernet.HEADER_BYTES;
  const to = isWhole ? ethernet.destination(frame, 0) : undefined;
  const about = 'peer' in from && isWhole ? ethernet.source(frame, 0) : to;
  const target =
    about === undefined ? undefined : describeTargets(overlay, Float64Array.of(about)).rows.at(0);
  const sender = 'port' in from ? ports.find(({ name }) => name === from.port) : undefined;
  const holder = to === undefined ? NONE : overlay.portIndex.get(highOf(to), lowOf(to));
  const fixed = point === NOWHERE ? undefined : endpointOf(overlay, point);
  const answered = answers.flatMap((answer) => (answer.kind === 'target' ? answer.to : []));
  const destinations = 'peer' in from ? [] : [...(fixed ? [fixed] : (target?.to ?? [])), ...answered];
  const { mtuBytes, listen, acceptAny, strictSource, carryTags } = overlay.options;
  return {
    settings: { mtuBytes, listen, acceptAny, strictSource, carryTags },
    port: sender && portOf(overlay, sender),
    holder: holder === NONE ? undefined : portOf(overlay, ports[holder]),
    target,
    isStation: to !== undefined && stations?.has(highOf(to), lowOf(to), shared.nowTick) === true,
    point: fixed,
    isPeer: 'peer' in from && overlay.peers.hasAddress(from.peer.ip),
    paths: destinations.slice(0, MAX_PATHS).map((each) => pathOf(overlay, each)),
  };
}

function portOf({ shared }: Overlay, port: Port): PortFacts {
  const { name, macHigh, macLow, vid, own, presence, protection } = port;
  return {
    name,
    mac: fromHalves(macHigh, macLow),
    vid,
    own,
    protection: protection?.types ?? [],
    isDown: presence.isDown,
    isAlive: presence.isAlive(shared.nowTick),
    isElsewhere: presence.isElsewhere,
  };
}

function pathOf({ options, shared, loops }: Overlay, to: Endpoint): PathFacts {
  const { destinations, routeMtuBytes } = shared;
  const slot = destinations.slotOf(to);
  return {
    to,
    pathMtuBytes: slot === undefined ? Infinity : destinations.paths.bytes(slot),
    routeMtuBytes: routeMtuBytes(options.listen.ip, to.ip),
    isLoop: loops.ips.includes(to.ip),
  };
}
