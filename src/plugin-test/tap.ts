/** A port in memory: a TAP of an overlay of the lab, and the guest behind it. */
import { type CounterName, createCounters, readCounters } from '../core/counts/counters.js';
import type { ProtectionRules } from '../core/protection/link-protection.js';
import { createPresence, setDown } from '../core/presence.js';
import type { Command } from '../datapath/userland/protocol.js';
import { DatapathEngine } from '../datapath/userland/thread/engine.js';
import type { Device } from '../io/contract.js';
import { type MemoryFrame, MemoryHost, type MemoryPort } from '../io/memory.js';
import type { MacAddress } from '../wire/mac.js';
import type * as virtio from '../wire/virtio-net.js';

/** The overlay that a port belongs to. */
export interface TapNet {
  readonly id: number;
  readonly vtep: {
    readonly host: MemoryHost;
    readonly engine: Pick<DatapathEngine, 'obey'>;
    readonly lab: { run(): void };
    nextToken(): number;
    obey(command: Command): void;
  };
}

export interface PortOptions {
  readonly vid?: number;
  readonly own?: boolean;
  /** Middleware for its device. */
  readonly wrap?: (device: Device) => Device;
}

/** A port of an overlay, with the guest behind it. */
export class Tap<N extends TapNet = TapNet> {
  readonly net: N;
  readonly mac: MacAddress;
  readonly vid: number;
  readonly port: MemoryPort;
  readonly token: number;
  readonly values = createCounters();
  readonly presence = createPresence();

  constructor(net: N, mac: MacAddress, { vid = 0, own = false, wrap }: PortOptions) {
    this.net = net;
    this.mac = mac;
    this.vid = vid;
    this.port = net.vtep.host.openPort();
    if (wrap !== undefined) net.vtep.host.wrap(this.port.fd, wrap);
    this.token = net.vtep.nextToken();
    net.vtep.engine.obey({
      kind: 'add-port',
      token: this.token,
      overlay: net.id,
      name: `port${this.token}`,
      fd: this.port.fd,
      headerBytes: 0,
      mac,
      vid,
      own,
      presence: this.presence,
      counters: this.values,
    });
  }

  get counters(): Record<CounterName, number> {
    return readCounters(this.values);
  }

  /** Tells what the control side has heard of the interface. */
  setDown(isDown: boolean): void {
    setDown(this.presence, isDown);
  }

  /** Undefined = it may send anything. */
  protect(protection: ProtectionRules | undefined): void {
    this.net.vtep.obey({ kind: 'protect', token: this.token, protection });
  }

  /** Its device has this MAC now. */
  setMac(mac: MacAddress, protection?: ProtectionRules): void {
    this.net.vtep.obey({ kind: 'set-mac', token: this.token, mac, protection });
  }

  send(...frames: readonly Uint8Array[]): void {
    for (const bytes of frames) this.port.send(bytes);
    this.net.vtep.lab.run();
  }

  sendWith(header: virtio.Repr, bytes: Uint8Array): void {
    this.port.send(bytes, header);
    this.net.vtep.lab.run();
  }

  /** Returns the frames that have come out since the last call. */
  take(): Uint8Array[] {
    return this.port.take().map(({ bytes }) => bytes);
  }

  takeWhole(): MemoryFrame[] {
    return this.port.take();
  }

  remove(): void {
    this.net.vtep.obey({ kind: 'remove-port', token: this.token, reply: 1 });
  }
}
