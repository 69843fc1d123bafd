/**
 * The subject of doctor: the answers of varpd, and the overlays. A varpd that runs says which overlays there
 * are; otherwise the state files do.
 */
import { encapsulation, ENCAPSULATION_NAMES, type EncapsulationName } from '../../encap/index.js';
import { type Call, ConnectionError, createClient } from '../../control/client.js';
import type { DaemonStatus } from '../../control/daemon-messages.js';
import type { OverlayHealth, OverlayInfo, VnicInfo } from '../../control/messages.js';
import { type Endpoint, family, type IpAddress, parse as parseIp, parseEndpoint } from '../../wire/ip.js';
import { readPages } from '../../control/pages.js';
import { type MappingFacts, readMapping } from './mapping-file.js';
import { processFacts, type ProcessFacts } from './system.js';
import {
  accountOf,
  type Configuration,
  readConfiguration,
  readStateDirectory,
  type StateDirectoryFacts,
  type StoredOverlay,
  type UserFacts,
} from './varpd-files.js';

/** A varpd that hangs must not hold up what needs none. */
const ANSWER_MS = 3000;

/** A varpd that answers. */
export interface Varpd {
  readonly status: DaemonStatus;
  /** Undefined where dladm does not see its process. */
  readonly process: ProcessFacts | undefined;
  /** Real time of dladm when it had the answer. */
  readonly answeredAtMs: number;
}

/** No varpd answers. */
export interface Silence {
  readonly why: string;
  /** This user may not ask, so varpd may well run. */
  readonly isDenied: boolean;
  /** A program has the socket, and does not answer. */
  readonly isHung: boolean;
}

export interface OverlaySubject {
  readonly name: string;
  readonly encap: EncapsulationName;
  readonly listenIp: IpAddress;
  readonly listenPort: number;
  /** Undefined while it does not run and has none set. */
  readonly mtuBytes: number | undefined;
  /** Beyond this host. */
  readonly destinations: readonly Endpoint[];
  /** Undefined without the files plugin. */
  readonly mapping: MappingFacts | undefined;
  readonly vnics: readonly {
    readonly name: string;
    readonly mac: string;
    readonly state: string | undefined;
  }[];
  /** The answer of varpd about it; undefined while varpd does not answer. */
  readonly running:
    (Pick<OverlayInfo, 'counters' | 'offloads'> & { readonly health: OverlayHealth }) | undefined;
}

export interface Subject {
  readonly socket: string;
  readonly dladm: ProcessFacts;
  readonly varpd: Varpd | Silence;
  readonly configuration: Configuration;
  /** User of varpd: of the process, else of the configuration. */
  readonly user: UserFacts | undefined;
  readonly state: StateDirectoryFacts | undefined;
  /** Those that were asked about. */
  readonly overlays: readonly OverlaySubject[];
  /** Those of them of which nothing is known but their health: their state files were set aside. */
  readonly broken: readonly Pick<OverlayInfo, 'name' | 'health'>[];
  /** Interfaces of all overlays. */
  readonly ports: readonly string[];
}

export function runs(varpd: Subject['varpd']): varpd is Varpd {
  return 'status' in varpd;
}

export interface SubjectOptions {
  readonly socket: string;
  readonly configFile: string | undefined;
  /** Undefined: all. */
  readonly overlay: string | undefined;
}

/** No overlay is found where there is none of the name that was asked about. Never rejects for want of varpd. */
export async function readSubject({ socket, configFile, overlay }: SubjectOptions): Promise<Subject> {
  const call = createClient(socket, { timeoutMs: ANSWER_MS });
  const answer = await askVarpd(call);
  const { varpd } = answer;
  const ofVarpd = runs(varpd) ? varpd.process : undefined;
  const configuration = readConfiguration(configFile, ofVarpd);
  const { config } = configuration;
  const user = ofVarpd ?? (config && accountOf(config));
  const uid = user && 'uid' in user ? user.uid : undefined;
  const state = config && (await readStateDirectory(config.stateDir, uid));
  const isAsked = ({ name }: { readonly name: string }): boolean => overlay === undefined || name === overlay;
  const infos = answer.overlays.filter(isAsked);
  const overlays = await Promise.all(
    runs(varpd)
      ? infos.map((info) => runningOverlay(call, info, answer.vnics))
      : (state?.overlays ?? []).filter(isAsked).map(storedOverlay),
  );
  return {
    socket,
    dladm: processFacts('self')!,
    varpd,
    configuration,
    user,
    state,
    overlays: overlays.filter((one) => one !== undefined),
    broken: infos.filter((_, index) => overlays[index] === undefined),
    ports: [...answer.overlays, ...answer.vnics].map(({ name }) => name),
  };
}

interface Answer {
  readonly varpd: Subject['varpd'];
  readonly overlays: readonly OverlayInfo[];
  readonly vnics: readonly VnicInfo[];
}

/** Never rejects: a varpd that ends meanwhile is one that does not answer. */
async function askVarpd(call: Call): Promise<Answer> {
  try {
    const status = await call('daemon.status', {});
    const varpd = { status, process: processFacts(status.pid), answeredAtMs: Date.now() };
    const overlays = (await readPages(call, 'overlay.list', {})).flatMap((page) => page.overlays);
    const vnics = (await readPages(call, 'vnic.list', {})).flatMap((page) => page.vnics);
    return { varpd, overlays, vnics };
  } catch (error) {
    const code = error instanceof ConnectionError ? error.code : undefined;
    const silence = { isDenied: code === 'DENIED', isHung: code === 'TIMEOUT' };
    return { varpd: { why: (error as Error).message, ...silence }, overlays: [], vnics: [] };
  }
}

async function runningOverlay(
  call: Call,
  { name, properties, health, counters, offloads }: OverlayInfo,
  allVnics: readonly VnicInfo[],
): Promise<OverlaySubject | undefined> {
  const vnics = allVnics.filter(({ over }) => over === name);
  const values = new Map(
    properties.flatMap(({ property, value }) => (value === null ? [] : [[property, value]])),
  );
  const targets =
    health.status === 'OFFLINE'
      ? []
      : // Of a large table the first page will do: its routes are those of the rest.
        await call('overlay.targets', { name }).then(
          ({ rows }) => rows.flatMap(({ destinations }) => destinations),
          () => [],
        );
  return overlayFrom(name, values.get('encap') ?? '', values.get('search') ?? '', values, targets, {
    vnics,
    running: { health, counters, offloads },
  });
}

function storedOverlay({
  name,
  encap,
  search,
  properties,
  vnics,
}: StoredOverlay): Promise<OverlaySubject | undefined> {
  const named = vnics.map((vnic) => ({ name: vnic.name, mac: vnic.mac, state: undefined }));
  return overlayFrom(name, encap, search, new Map(properties), [], { vnics: named, running: undefined });
}

/** Undefined when its state file was set aside: then nothing is known of it. */
async function overlayFrom(
  name: string,
  encap: string,
  search: string,
  values: ReadonlyMap<string, string>,
  targets: readonly string[],
  rest: Pick<OverlaySubject, 'vnics' | 'running'>,
): Promise<OverlaySubject | undefined> {
  const listenIp = parseIp(values.get(`${encap}/listen_ip`) ?? '');
  if (listenIp === undefined || !isEncapsulation(encap)) return undefined;
  const file = search === 'files' ? values.get('files/config') : undefined;
  const mapping = file === undefined ? undefined : await readMapping(file);
  const direct = values.get('direct/dest_ip');
  const mtu = values.get('mtu');
  return {
    name,
    encap,
    listenIp,
    listenPort: Number(values.get(`${encap}/listen_port`) ?? encapsulation(encap).defaultPort),
    mtuBytes: mtu === undefined ? undefined : Number(mtu),
    destinations: destinationsFor(listenIp, [
      ...(direct === undefined ? [] : [endpointOf(direct, values.get('direct/dest_port') ?? '')]),
      ...targets.map(parseEndpoint),
      ...(mapping?.mapping?.destinations ?? []),
    ]),
    mapping,
    ...rest,
  };
}

function isEncapsulation(name: string): name is EncapsulationName {
  return ENCAPSULATION_NAMES.some((one) => one === name);
}

function endpointOf(ip: string, port: string): Endpoint | undefined {
  const parsed = parseIp(ip);
  return parsed && { ip: parsed, port: Number(port) };
}

/** Those that an underlay of this family reaches, without this host itself; each once. */
function destinationsFor(listenIp: IpAddress, all: readonly (Endpoint | undefined)[]): Endpoint[] {
  const known = new Map<string, Endpoint>();
  for (const one of all)
    if (one !== undefined && one.ip !== listenIp && family(one.ip) === family(listenIp))
      known.set(`${one.ip} ${one.port}`, { ip: one.ip, port: one.port });
  return [...known.values()];
}
