/**
 * The probes of this daemon: reads the request of a client, and limits the number of probes. probe-run.ts sends
 * the frames and waits for what comes back.
 */
import { MIN_PROBE_BYTES, type ProbeInfo } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import { invalidError, OverlayError } from '../../model/errors.js';
import { isStationIp, parse } from '../../wire/ip.js';
import { isMulticast, type MacAddress, parseMac, ZERO } from '../../wire/mac.js';
import { type ProbedOverlay, type ProbePort, ProbeRun, type ProbeTarget } from './probe-run.js';

type Params = Methods['overlay.probe']['params'];

/** Bytes of a packet when none are asked for: a ping has 84. */
const DEFAULT_BYTES = 84;
const DEFAULT_COUNT = 5;

/** The overlays that can be probed. */
export interface ProbedPlaces {
  /** Throws an OverlayError when no overlay of this name runs. */
  need(name: string): ProbedOverlay;
}

export class Probes {
  readonly #places: ProbedPlaces;
  /** Overlays with a probe. */
  readonly #running = new Set<string>();

  constructor(places: ProbedPlaces) {
    this.#places = places;
  }

  /** Rejects with an OverlayError. */
  async run(params: Params): Promise<ProbeInfo> {
    const { packetBytes = DEFAULT_BYTES, count = DEFAULT_COUNT, isMtuSought, isEachPath } = params;
    const overlay = this.#places.need(params.name);
    const { name, mtuBytes } = overlay;
    if (packetBytes > mtuBytes)
      throw invalidError(
        `a packet of ${packetBytes} bytes does not fit the mtu of ${name}, which is ${mtuBytes}`,
      );
    const port = portOf(overlay, params);
    const target = await targetOf(overlay, params.target);
    if (target.mac !== undefined && overlay.hasMac(target.mac))
      throw invalidError(
        `${params.target} is at this host: a probe goes through the tunnel, to a station of another host`,
      );
    if (this.#running.has(name)) throw new OverlayError('AGAIN', `another probe of ${name} is under way`);
    this.#running.add(name);
    try {
      const wanted = { packetBytes: Math.max(packetBytes, MIN_PROBE_BYTES), count, isMtuSought, isEachPath };
      const found = await new ProbeRun(overlay, port, target, wanted).run();
      // Frames of an overlay that has ended went nowhere, which says nothing about the peer.
      if (this.#places.need(name) !== overlay)
        throw new OverlayError('AGAIN', `${name} was started again while it was probed`);
      return found;
    } finally {
      this.#running.delete(name);
    }
  }
}

function portOf(overlay: ProbedOverlay, { vlan, port = senderOf(overlay, vlan) }: Params): ProbePort {
  const vnic = overlay.vnics.get(port);
  if (vnic === undefined && port !== overlay.name)
    throw new OverlayError('NOT_FOUND', `${overlay.name} has no port '${port}'`);
  const mac = macOf(overlay, port);
  const vid = vnic?.vid ?? 0;
  if (vid !== 0 && vlan !== undefined && vlan !== vid)
    throw invalidError(`${port} is in VLAN ${vid}, and cannot send in VLAN ${vlan}`);
  return { name: port, mac, vid: vid === 0 ? (vlan ?? 0) : vid };
}

/** The port that sends when none is named: the overlay's own. The other end sends its answers where the mapping
 * has the sender, so a VNIC that the mapping has sends for an own port that it lacks: in the VLAN of the VNIC
 * if that is the only way. */
function senderOf(overlay: ProbedOverlay, vlan: number | undefined): string {
  const { name, vnics, plugin } = overlay;
  const isKnown = (port: string): boolean => plugin.placeOf(macOf(overlay, port)) !== null;
  if (isKnown(name)) return name;
  const known = [...vnics].filter(([port]) => isKnown(port));
  const [sender] =
    known.find(([, { vid }]) => vid === 0 || vid === vlan) ?? (vlan === undefined ? known : []).at(0) ?? [];
  return sender ?? name;
}

function macOf(overlay: ProbedOverlay, port: string): MacAddress {
  return overlay.links.macOf(port) ?? overlay.vnics.get(port)?.mac ?? overlay.mac;
}

async function targetOf({ name, plugin }: ProbedOverlay, text: string): Promise<ProbeTarget> {
  const mac = parseMac(text);
  if (mac !== undefined) {
    if (mac === ZERO || isMulticast(mac)) throw invalidError(`${text} is not the MAC of one station`);
    return { mac, ip: undefined };
  }
  const ip = parse(text);
  if (ip === undefined || !isStationIp(ip))
    throw invalidError(`'${text}' is neither the MAC nor the IP address of a station`);
  const found = await plugin.neighbor(ip);
  if (found === null)
    throw new OverlayError('NOT_FOUND', `the mapping of ${name} has no MAC for ${ip}: probe the MAC instead`);
  return { mac: found, ip };
}
