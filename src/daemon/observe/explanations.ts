/**
 * `dladm explain`: reads the request, has the datapath run the frame dry (core/dry-run/dry-run.ts), and asks the plugin
 * where a frame would wait for it. The plugin's answer goes into another dry run, and nowhere else.
 */
import { type Explanation, MAX_EXPLAINED_BYTES } from '../../control/explain-messages.js';
import type { Methods } from '../../control/methods.js';
import type { Explained } from '../../core/dry-run/dry-facts.js';
import type { DryFrame } from '../../core/dry-run/dry-run.js';
import type { LookupAnswer, LookupRequest, OverlayDatapath } from '../../datapath/contract.js';
import { invalidError, OverlayError } from '../../model/errors.js';
import { foundExpected } from '../../model/properties.js';
import * as ethernet from '../../wire/ethernet.js';
import {
  type Endpoint,
  family,
  type IpAddress,
  isSameEndpoint,
  isV4,
  parse,
  parseEndpoint,
} from '../../wire/ip.js';
import { formatMac, type MacAddress, parseMac } from '../../wire/mac.js';
import { systemErrorText } from '../system-error.js';
import { DEFAULT_BYTES, frameOf } from './explained-frame.js';
import { type Answered, tell } from './explained-steps.js';

type Params = Methods['overlay.explain']['params'];

/** A broadcast may be redirected to a station, and that one looked up. More is a plugin that goes in circles. */
const MAX_QUESTIONS = 4;
/** A peer's UDP port when none is given. No decision depends on it. */
const ANY_PORT = 49152;

interface ExplainedOverlay {
  readonly name: string;
  readonly plan: { readonly encap: string; readonly vnetid: number };
  readonly listen: Endpoint;
  readonly datapath: Pick<OverlayDatapath, 'explain'>;
  readonly plugin: {
    answerOf(request: LookupRequest): Promise<LookupAnswer>;
    neighbor(ip: IpAddress): Promise<MacAddress | null | undefined>;
  };
  ports(): readonly { readonly name: string }[];
}

export interface ExplainedPlaces {
  readonly overlays: ReadonlyMap<string, ExplainedOverlay>;
  /** Throws an OverlayError when no overlay of this name runs. */
  need(name: string): ExplainedOverlay;
}

export class Explanations {
  readonly #places: ExplainedPlaces;

  constructor(places: ExplainedPlaces) {
    this.#places = places;
  }

  /** Rejects with an OverlayError. */
  async explain(params: Params): Promise<Explanation> {
    const named = this.#places.need(params.name);
    const peer = params.from === undefined ? undefined : peerOf(params.from, named.listen);
    if (peer !== undefined && params.port !== undefined)
      throw invalidError('a frame out of the tunnel comes from no port: leave out -i, or --inbound');
    if (peer === undefined && params.vnetid !== undefined)
      throw invalidError('a frame of a port has the VNI of its overlay: --vni goes with --inbound');
    const vnetid = params.vnetid ?? named.plan.vnetid;
    const overlay = peer === undefined ? named : this.#receiverOf(named, vnetid);
    const port = params.port ?? overlay.name;
    const ports = overlay.ports().map(({ name }) => name);
    if (!ports.includes(port))
      throw new OverlayError('NOT_FOUND', `${overlay.name} has no port '${port}', but ${ports.join(', ')}`);
    const from = peer === undefined ? { port } : { peer, vnetid };
    const { frame, resolved } = await readFrame(overlay, params, from);
    const { answers, threads, sourcePorts } = await run(overlay, { frame, from, answers: [] });
    const first = threads.at(0);
    if (first === undefined) throw new OverlayError('AGAIN', `${overlay.name} was deleted meanwhile`);
    const { encap } = overlay.plan;
    return {
      overlay: overlay.name,
      port: peer === undefined ? port : null,
      questions: answers.length,
      ...tell({ overlay: overlay.name, encap, frame, from, resolved, answers, threads, sourcePorts }, first),
    };
  }

  /** The overlay that a datagram with this VNI is for: another one, if it shares the socket. */
  #receiverOf(named: ExplainedOverlay, vnetid: number): ExplainedOverlay {
    const others = [...this.#places.overlays.values()].filter(
      ({ listen, plan }) => isSameEndpoint(listen, named.listen) && plan.encap === named.plan.encap,
    );
    return others.find(({ plan }) => plan.vnetid === vnetid) ?? named;
  }
}

async function run(
  { datapath, plugin }: ExplainedOverlay,
  frame: DryFrame,
): Promise<{ threads: readonly Explained[]; sourcePorts: readonly number[]; answers: readonly Answered[] }> {
  const answers: Answered[] = [];
  for (;;) {
    const found = await datapath.explain({ ...frame, answers: answers.map(({ answer }) => answer) });
    const question = found.threads[0]?.question;
    if (question === undefined || answers.length === MAX_QUESTIONS) return { ...found, answers };
    answers.push({ question, answer: await plugin.answerOf(question) });
  }
}

// -- The frame

async function readFrame(
  overlay: ExplainedOverlay,
  params: Params,
  from: DryFrame['from'],
): Promise<{ frame: Uint8Array; resolved: string | undefined }> {
  const made = [params.destination, params.source, params.etherType, params.vlan, params.bytes];
  if (params.frame !== undefined) {
    if (made.some((one) => one !== undefined))
      throw invalidError(
        'a whole frame has its own addresses, type, tags and size: give --frame or --pcap alone',
      );
    return { frame: bytesOf(params.frame), resolved: undefined };
  }
  if (params.destination === undefined) throw invalidError('no frame: give --dst, --frame or --pcap');
  const destination = addressOf('--dst', params.destination);
  const source = params.source === undefined ? undefined : addressOf('--src', params.source);
  const [ip, sourceIp] = [destination.ip, source?.ip];
  if (ip !== undefined && sourceIp !== undefined && isV4(ip) !== isV4(sourceIp))
    throw invalidError(`--src: ${sourceIp} and ${ip} are not of one address family`);
  const isV6 = (ip ?? sourceIp)?.includes(':') === true;
  const { etherType = isV6 ? ethernet.IPV6 : ethernet.IPV4, vlan, bytes = DEFAULT_BYTES } = params;
  const to = destination.mac ?? (await macOf(overlay, ip!));
  const frame = frameOf({
    to,
    from: source?.mac ?? ('port' in from ? await ownMac(overlay, from) : OTHER_MAC),
    etherType,
    vlan,
    source: sourceIp,
    destination: ip,
    bytes,
  });
  const resolved = ip === undefined ? undefined : `${ip} is at ${formatMac(to)}`;
  return { frame, resolved };
}

/** Source of a frame out of the tunnel when none is given: a MAC that no station has (RFC 7042 2.1.2). */
const OTHER_MAC = 0x0000_5e00_53ff;

async function ownMac({ name, datapath }: ExplainedOverlay, from: DryFrame['from']): Promise<MacAddress> {
  const { threads } = await datapath.explain({ frame: new Uint8Array(0), from, answers: [] });
  const port = threads[0]?.facts.port;
  if (port === undefined) throw new OverlayError('AGAIN', `${name}: the port has no device at the moment`);
  return port.mac;
}

/** The MAC that a guest would get from the proxies: only the plugin knows addresses of the overlay. */
async function macOf({ name, plugin }: ExplainedOverlay, ip: IpAddress): Promise<MacAddress> {
  const mac = await plugin.neighbor(ip).catch((error: unknown) => {
    throw new OverlayError(
      'AGAIN',
      `the plugin failed to say which MAC has ${ip}: ${systemErrorText(error)}`,
    );
  });
  if (mac !== null && mac !== undefined) return mac;
  throw new OverlayError(
    'NOT_FOUND',
    `the plugin of ${name} knows no MAC of ${ip}: give --dst its MAC, as in 'ip neigh show to ${ip}' where the frame is sent`,
  );
}

function addressOf(option: string, text: string): { readonly mac?: MacAddress; readonly ip?: IpAddress } {
  const mac = parseMac(text);
  if (mac !== undefined) return { mac };
  const ip = parse(text);
  if (ip !== undefined) return { ip };
  throw invalidError(`${option}: ${foundExpected(text, 'a MAC or an IP address')}`);
}

function bytesOf(hex: string): Uint8Array {
  if (!/^(?:[0-9a-f]{2})*$/i.test(hex)) throw invalidError('the frame is not hexadecimal, two digits a byte');
  if (hex.length > 2 * MAX_EXPLAINED_BYTES)
    throw invalidError(
      `the frame has ${hex.length / 2} bytes, and none on a wire has more than ${MAX_EXPLAINED_BYTES}: capture with --segments`,
    );
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

function peerOf(text: string, listen: Endpoint): Endpoint {
  const ip = parse(text);
  const peer = ip === undefined ? parseEndpoint(text) : { ip, port: ANY_PORT };
  if (peer === undefined)
    throw invalidError(`--from: ${foundExpected(text, 'the underlay address of a VTEP')}`);
  if (family(peer.ip) !== family(listen.ip))
    throw invalidError(
      `--from: ${peer.ip} is not of the address family of ${listen.ip}, where the overlay listens`,
    );
  return peer;
}
