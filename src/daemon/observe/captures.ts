/** The captures of this daemon: reads the request of a client, and limits the number of captures. */
import type { Duplex } from 'node:stream';
import { type CaptureInfo, MAX_SNAP_BYTES } from '../../control/messages.js';
import type { Methods } from '../../control/methods.js';
import type { FilterRules } from '../../core/capture/capture-filter.js';
import type { CaptureRules } from '../../core/capture/capture-tap.js';
import { COUNTER } from '../../core/counts/counters.js';
import type { OverlayDatapath } from '../../datapath/contract.js';
import { DROPS, type DropReason } from '../../model/drops.js';
import { invalidError, OverlayError } from '../../model/errors.js';
import { parse, toBytes } from '../../wire/ip.js';
import { parseMac } from '../../wire/mac.js';
import type { Log } from '../log.js';
import { VERSION } from '../version.js';
import { PacketStream } from './capture-stream.js';

type Params = Methods['capture.start']['params'];

/** Each capture has a ring in each thread, and costs the threads time. */
const MAX_CAPTURES = 4;

interface CapturedOverlay {
  readonly name: string;
  readonly plan: { readonly encap: string; readonly vnetid: number };
  readonly datapath: Pick<OverlayDatapath, 'capture'>;
  ports(): readonly { readonly name: string }[];
}

/** The overlays and VNICs that can be captured. */
export interface CapturedPlaces {
  readonly overlays: ReadonlyMap<string, CapturedOverlay>;
  overlayOfVnic(name: string): CapturedOverlay | undefined;
  /** Throws an OverlayError when no overlay of this name runs. */
  need(name: string): CapturedOverlay;
}

export interface StartedCapture {
  readonly result: CaptureInfo;
  /** Writes the capture to the client. Resolves when the capture is over. */
  readonly run: (client: Duplex) => Promise<void>;
}

export class Captures {
  readonly #places: CapturedPlaces;
  readonly #log: Log;
  #running = 0;

  constructor(places: CapturedPlaces, log: Log) {
    this.#places = places;
    this.#log = log;
  }

  /** Rejects with an OverlayError. Frames are captured once it has resolved; `run` must be called. */
  async start(params: Params): Promise<StartedCapture> {
    const { name, snapBytes = MAX_SNAP_BYTES, count = Infinity, isOuter, isCut } = params;
    const vnicOf = this.#places.overlays.has(name) ? undefined : this.#places.overlayOfVnic(name);
    const overlay = vnicOf ?? this.#places.need(name);
    const isPort = vnicOf !== undefined;
    if (this.#running >= MAX_CAPTURES)
      throw new OverlayError('AGAIN', `${this.#running} captures run, which is the limit`);
    const rules: CaptureRules = {
      ...(isPort && { port: name }),
      ...dropRules(params),
      filter: filterOf(params),
      snapBytes,
      // An outer packet is what leaves, and no superframe does.
      isCut: isCut || isOuter,
    };
    this.#running++;
    const capture = await overlay.datapath.capture(rules).catch((error: unknown) => {
      this.#running--;
      throw error;
    });
    const { encap, vnetid } = overlay.plan;
    const stream = new PacketStream(capture, {
      isCut,
      isOuter,
      snapBytes,
      count,
      application: `varpd ${VERSION}`,
      ports: isPort ? [name] : overlay.ports().map((port) => port.name),
      tunnel: isPort ? undefined : { name, about: `${encap} ${vnetid}` },
    });
    this.#log.info(`capture ${name}`, `${name}: a capture begins`);
    const run = async (client: Duplex): Promise<void> => {
      try {
        const { packets, lost } = await stream.run(client);
        this.#log.info(
          `capture ${name} end`,
          `${name}: a capture of ${packets} packets has ended; it lost ${lost}`,
        );
      } finally {
        this.#running--;
      }
    };
    return { result: { overlay: overlay.name }, run };
  }
}

function dropRules({ isDropsOnly, reason }: Params): Pick<CaptureRules, 'isDropsOnly' | 'reason'> {
  if (reason === undefined) return { isDropsOnly };
  if (!Object.hasOwn(DROPS, reason))
    throw invalidError(
      `no frame is dropped for the reason '${reason}', expected one of ${Object.keys(DROPS).join(', ')}`,
    );
  return { isDropsOnly: true, reason: COUNTER[reason as DropReason] };
}

function filterOf({ mac, ip, etherType, vlan, peer }: Params): FilterRules {
  return {
    ...(mac !== undefined && { mac: needed(parseMac(mac), `'${mac}' is no MAC address`) }),
    ...(ip !== undefined && { ip: addressOf(ip) }),
    ...(etherType !== undefined && { etherType }),
    ...(vlan !== undefined && { vlan }),
    ...(peer !== undefined && { peer: addressOf(peer) }),
  };
}

function addressOf(text: string): Uint8Array {
  return toBytes(needed(parse(text), `'${text}' is no IP address`));
}

function needed<T>(value: T | undefined, problem: string): T {
  if (value === undefined) throw invalidError(problem);
  return value;
}
