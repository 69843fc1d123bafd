// One host of the simulation. Real: the datapath's engine with all of src/core, OverlayPlugin (starts and retries), PluginInstance
// (deadlines, checks), Health. In place of threads: a message takes MESSAGE_MS. In place of devices: src/io/memory.ts.
import { parseConfig } from '../../src/daemon/config-file.js';
import { Health } from '../../src/daemon/health.js';
import type { Log } from '../../src/daemon/log.js';
import { OverlayPlugin } from '../../src/daemon/overlays/overlay-plugin.js';
import type { PluginDatapath } from '../../src/daemon/plugins/knowledge.js';
import type { Command, Report } from '../../src/datapath/userland/protocol.js';
import { DatapathEngine } from '../../src/datapath/userland/thread/engine.js';
import { VXLAN } from '../../src/encap/vxlan.js';
import { MemoryHost, type MemoryPort, type MemorySocket } from '../../src/io/memory.js';
import { overlaySpecs } from '../../src/model/overlay-specs.js';
import { PropertySet } from '../../src/model/properties.js';
import type { FrameBatch } from '../../src/wire/descriptor.js';
import type { Site } from './site.js';
import { endpointOf, interfaceMacOf, macOf } from './names.js';
import { type Client, createPlugin } from './ways.js';

const [SOCKET, PORT, OVERLAY, VNETID] = [1, 2, 1, 100];
const MTU_BYTES = 1450;
/** From a datapath thread to the control thread, or back. */
const MESSAGE_MS = 0.1;
const SILENT: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing };
const { limits } = parseConfig('', '');

function nothing(): void {
  // Nobody reads the log of ten thousand hosts.
}

/** A frame is in a batch only during a call, and there is one call at a time: all hosts use the same batches. */
const batches = new Map<string, FrameBatch>();

class LeanHost extends MemoryHost {
  override createBatch(direction?: string): FrameBatch {
    const key = direction ?? '';
    const batch = batches.get(key) ?? super.createBatch();
    batches.set(key, batch);
    return batch;
  }
}

export const NO_FILES = {
  stateDir: (): string => '',
  secret: (name: string): Promise<string> => Promise.reject(new Error(`there is no secret ${name}`)),
};

export class SimulatedHost {
  readonly index: number;
  readonly health: Health;
  isUp = false;
  client: Client | undefined;
  engine: DatapathEngine | undefined;
  readonly #site: Site;
  readonly #platform: LeanHost;
  #socket: MemorySocket | undefined;
  #port: MemoryPort | undefined;
  #plugin: OverlayPlugin | undefined;
  /** Raised by each start: messages of the time before are lost. */
  #life = 0;

  constructor(site: Site, index: number) {
    this.#site = site;
    this.index = index;
    this.#platform = new LeanHost(site.network, 1);
    this.health = new Health(`overlay of host ${index}`, SILENT);
  }

  /** Starts varpd. `known`: targets of the varpd before, as after `dladm restart`. */
  start(known: readonly { mac: number; host: number }[] = []): void {
    const { clock, counters, store, terms } = this.#site;
    this.isUp = true;
    this.#life++;
    const listen = endpointOf(this.index);
    const engine = new DatapathEngine(this.#platform, (report) => {
      this.#hear(report);
    });
    this.engine = engine;
    engine.setTime(clock.nowMs);
    this.#socket = this.#platform.openSocket(listen);
    this.#port = this.#platform.openPort();
    const { fd } = this.#socket;
    engine.obey({ kind: 'add-socket', token: SOCKET, fd, encapsulation: 'vxlan', counters });
    engine.obey({ kind: 'add-sender', token: SOCKET, fd, socket: SOCKET });
    engine.obey({
      kind: 'add-overlay',
      options: {
        id: OVERLAY,
        encapsulation: 'vxlan',
        vnetid: VNETID,
        mtuBytes: MTU_BYTES,
        listen,
        destination: undefined,
        // The list of peers is one for all hosts, and is not what is asked about here.
        acceptAny: true,
        strictSource: false,
        carryTags: true,
        copyDscp: false,
        keepApart: false,
        negativeTtlMs: limits.negativeTtlMs,
        maxTargets: limits.maxTargets,
      },
      socket: SOCKET,
      senderFds: [fd],
      segmentation: false,
      counters,
    });
    if (known.length > 0)
      engine.obey({
        kind: 'restore-targets',
        overlay: OVERLAY,
        targets: known.map(({ mac, host }) => ({ mac: macOf(mac), to: [endpointOf(host)] })),
      });
    engine.obey({
      kind: 'add-port',
      token: PORT,
      overlay: OVERLAY,
      name: 'overlay0',
      fd: this.#port.fd,
      headerBytes: 0,
      mac: interfaceMacOf(this.index),
      vid: 0,
      own: true,
      counters,
    });
    const plugin = createPlugin(store, terms.way, (client) => {
      this.client = client;
    });
    const properties = PropertySet.from(
      overlaySpecs(VXLAN, [], ['store']),
      [['vxlan/listen_ip', listen.ip]],
      {},
    );
    this.#plugin = new OverlayPlugin(
      'store',
      { overlay: 'overlay0', vnetid: VNETID, listen },
      { log: SILENT, health: this.health, limits: () => limits, files: NO_FILES, reprotect: nothing },
      () => Promise.resolve({ plugin, properties }),
      { started: nothing },
    );
    this.#plugin.attach(this.#datapath());
    this.#plugin.startLater(undefined);
  }

  /** The host loses its power, or varpd ends. */
  stop(): void {
    this.isUp = false;
    this.#life++;
    if (this.#socket !== undefined) this.#platform.close(this.#socket.fd);
    if (this.#port !== undefined) this.#platform.close(this.#port.fd);
    this.engine = undefined;
    const plugin = this.#plugin;
    this.#plugin = undefined;
    plugin?.stop().catch(nothing);
  }

  send(bytes: Uint8Array): void {
    const engine = this.engine!;
    engine.setTime(this.#site.clock.nowMs);
    this.#port!.send(bytes);
    engine.pump(PORT);
  }

  /** Takes what has arrived from the underlay. Returns the frames that came out of the port. */
  receive(): readonly Uint8Array[] {
    const engine = this.engine!;
    engine.setTime(this.#site.clock.nowMs);
    while (this.#socket!.isReady) engine.pump(SOCKET);
    return this.#port!.take().map(({ bytes }) => bytes);
  }

  #hear(report: Report): void {
    if (report.kind !== 'lookups') return;
    this.#later(() => {
      this.#plugin?.lookups(report.questions);
    });
  }

  #datapath(): PluginDatapath {
    const obey = (command: Command): void => {
      this.#later(() => {
        this.engine?.setTime(this.#site.clock.nowMs);
        this.engine?.obey(command);
        this.#site.pump();
      });
    };
    return {
      answer: (lookup, answer) => {
        obey({ kind: 'answer', overlay: OVERLAY, lookup, answer });
      },
      setTargets: (rows) => {
        for (const { mac, to, ttlMs, staleMs } of rows)
          obey({ kind: 'set-target', overlay: OVERLAY, mac, to, ttlMs, staleMs, origin: 'pushed' });
      },
      invalidate: (macs) => {
        const list = macs === undefined ? undefined : Float64Array.from(macs);
        obey({ kind: 'invalidate', overlay: OVERLAY, macs: list });
      },
      announce: (frame) => {
        obey({ kind: 'announce', overlay: OVERLAY, frame });
      },
      setPeers: nothing,
    };
  }

  #later(run: () => void): void {
    const life = this.#life;
    this.#site.clock.after(MESSAGE_MS, () => {
      if (life === this.#life) run();
    });
  }
}
