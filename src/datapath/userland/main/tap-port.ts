/**
 * A port as the control side has it. Its handle talks to the TAP, and to the threads that read from it. Queue
 * 0 of a port belongs to thread 0, and so on. Only the control side closes a descriptor, after the thread has
 * released it.
 */
import { constants } from 'node:os';
import { type Counters, readCounters } from '../../../core/counts/counters.js';
import type { ProtectionRules } from '../../../core/protection/link-protection.js';
import { type PresenceMemory, setDown } from '../../../core/presence.js';
import {
  closeTap,
  linkElsewhere,
  linkInfo,
  type LinkInfo,
  NativeError,
  renameLink,
  setLink,
  setTapCarrier,
  setTapOffload,
  setTapPersistent,
  tapInfo,
  type TunInfo,
} from '../../../dgram-extra/index.js';
import { inBackground } from '../../../model/background.js';
import { BYTES as MAC_BYTES, type MacAddress, readMac, writeMac } from '../../../wire/mac.js';
import type {
  Inherited,
  OverlayConfig,
  OverlayListener,
  PortDeviceInfo,
  PortFindings,
  PortHandle,
} from '../../contract.js';
import type { Token } from '../protocol.js';
import { isLasting, type PortState, tapDescriptors } from './handover.js';
import { checkTap, flagsFor, type Refusals, type WatchedTap } from './tap-settings.js';
import { discardTap } from './taps.js';
import type { Link } from './thread.js';

/** The parts that all ports of a datapath share. */
export interface PortContext {
  /** The threads of the datapath, a list that changes. */
  readonly threads: readonly Link[];
  readonly inherited: Inherited;
  /** Token of a queue -> its open port. */
  readonly open: Map<Token, TapPort>;
  /** Set when the devices are left to the next varpd as they are. */
  isEnding: boolean;
}

/** The overlay of a port. */
export interface PortOwner {
  readonly config: Pick<OverlayConfig, 'id' | 'queues' | 'offload'>;
  readonly carrier: boolean;
  readonly listener: OverlayListener | undefined;
  readonly refusals: Refusals;
  /** The ports that have not been removed. */
  readonly ports: Set<TapPort>;
}

/** Facts about how a port was opened. */
export interface OpenedPort extends Pick<PortState, 'temporary' | 'config'> {
  readonly owner: PortOwner;
  readonly queues: readonly { readonly token: Token; readonly fd: number; readonly counters: Counters }[];
  readonly tap: WatchedTap;
  readonly presence: PresenceMemory;
  /** Whether an earlier varpd left the device. */
  readonly isLeft: boolean;
}

const NOTHING_FOUND: PortFindings = { mended: [], noted: [], troubles: [] };

export class TapPort implements PortHandle, PortState {
  name: string;
  readonly temporary: boolean;
  readonly queues: OpenedPort['queues'];
  config: PortState['config'];
  closed: Promise<unknown> | undefined;
  readonly #opened: OpenedPort;
  #tap: WatchedTap;
  readonly #context: PortContext;

  constructor(opened: OpenedPort, context: PortContext) {
    this.name = opened.config.name;
    this.temporary = opened.temporary;
    this.queues = opened.queues;
    this.config = opened.config;
    this.#opened = opened;
    this.#tap = opened.tap;
    this.#context = context;
  }

  device(): PortDeviceInfo | undefined {
    if (this.closed !== undefined) return undefined;
    const [{ fd }] = this.queues;
    const info = tapInfo(fd);
    if (info === undefined) return undefined;
    const { name, mac, isHere } = info;
    const elsewhere = isHere ? undefined : () => linkElsewhere(fd, name);
    return { name, mac: readMac(mac, 0), isHere, elsewhere };
  }

  check(device: string | undefined, tun: TunInfo | undefined): PortFindings {
    const isOpen = this.closed === undefined && !this.#context.isEnding;
    return isOpen ? checkTap(this.#tap, device, tun) : NOTHING_FOUND;
  }

  setCarrier(on: boolean): void {
    if (this.closed !== undefined) return;
    try {
      setTapCarrier(this.queues[0].fd, on, this.name);
    } catch {
      // The device is just gone; the datapath thread will report it.
    }
  }

  get owner(): PortOwner {
    return this.#opened.owner;
  }

  setMtu(mtuBytes: number, before: number): boolean {
    if (this.closed !== undefined) return false;
    const device = tapInfo(this.queues[0].fd);
    if (device?.isHere !== true || linkInfo(device.name)?.mtuBytes !== before) return false;
    setLink(device.name, { mtuBytes });
    return true;
  }

  /** The link of the device. Throws ENODEV if the device is gone or in another network namespace. */
  #needLink(verb: string): LinkInfo {
    const device = this.closed === undefined ? tapInfo(this.queues[0].fd) : undefined;
    const link = device?.isHere === true ? linkInfo(device.name) : undefined;
    if (link === undefined) throw new NativeError(-constants.errno.ENODEV, verb, this.name);
    return link;
  }

  setAddress(mac: MacAddress): void {
    const bytes = new Uint8Array(MAC_BYTES);
    writeMac(bytes, 0, mac);
    setLink(this.#needLink('set the MAC of').name, { mac: bytes });
  }

  setVid(vid: number): void {
    if (this.closed !== undefined) return;
    this.config = { ...this.config, vid };
    this.queues.forEach(({ token }, queue) => {
      this.#context.threads[queue].post({ kind: 'set-vid', token, vid });
    });
  }

  rename(name: string): () => void {
    const { inherited, threads } = this.#context;
    const { index } = this.#needLink('rename');
    const labels = tapDescriptors([this]).map((one) => one.name);
    if (!this.temporary) this.#beginRename(name, index);
    try {
      renameLink(index, name);
    } catch (error) {
      this.#endRename(index);
      throw error;
    }
    this.name = name;
    this.config = { ...this.config, name };
    this.#tap = { ...this.#tap, name };
    this.queues.forEach(({ token }, queue) => {
      threads[queue].post({ kind: 'rename-port', token, name });
    });
    return () => {
      if (this.temporary || this.closed !== undefined) return;
      // A service manager keeps one copy of a descriptor, under the name that it was given first.
      inBackground('forgetting descriptors', inherited.forget(labels));
      inherited.keep(tapDescriptors([this]));
      this.#endRename(index);
    };
  }

  /** From now on the next varpd finds the device by either name, even if nothing keeps its descriptors. */
  #beginRename(name: string, index: number): void {
    this.#context.inherited.links.rename(this.name, name, index);
    this.#tap = { ...this.#tap, isPersistent: true };
    setTapPersistent(this.queues[0].fd, true, this.name);
  }

  #endRename(index: number): void {
    const { links, persistTaps } = this.#context.inherited;
    if (this.temporary || this.closed !== undefined) return;
    if (persistTaps) {
      links.record(this.name, index);
      return;
    }
    this.#makePassing();
    links.forget(this.name);
  }

  /** The device ends with its descriptors. */
  #makePassing(): void {
    this.#tap = { ...this.#tap, isPersistent: false };
    try {
      setTapPersistent(this.queues[0].fd, false, this.name);
    } catch {
      // The device is gone already.
    }
  }

  /** `offload`: TUN_F flags. */
  setOffload(offload: number): void {
    if (this.closed !== undefined) return;
    const flags = flagsFor(offload, this.#tap.headerBytes);
    const seen = { ...this.#tap.seen, offOffload: 0, triedOffload: 0 };
    this.#tap = { ...this.#tap, offload: flags, seen };
    try {
      setTapOffload(this.queues[0].fd, flags, this.name);
    } catch {
      // The device is just gone; the datapath thread will report it.
    }
  }

  setDown(isDown: boolean): void {
    setDown(this.#opened.presence, isDown);
  }

  setProtection(protection: ProtectionRules | undefined): void {
    if (this.closed !== undefined) return;
    this.config = { ...this.config, protection };
    this.queues.forEach(({ token }, queue) => {
      this.#context.threads[queue].post({ kind: 'protect', token, protection });
    });
  }

  setMac(mac: MacAddress, protection: ProtectionRules | undefined): void {
    if (this.closed !== undefined) return;
    this.config = { ...this.config, mac, protection };
    this.queues.forEach(({ token }, queue) => {
      this.#context.threads[queue].post({ kind: 'set-mac', token, mac, protection });
    });
  }

  counters(): Record<string, number> {
    return readCounters(...this.queues.map(({ counters }) => counters));
  }

  async remove(): Promise<void> {
    const { ports } = this.#opened.owner;
    if (!ports.has(this)) return;
    await this.#removeDevice();
    ports.delete(this);
  }

  /** Ends the port with its overlay, which the threads have released. `isKept`: a device that an earlier
   * varpd left is kept. */
  async end(isKept: boolean): Promise<void> {
    if (!isKept || !this.#opened.isLeft || !isLasting(this)) {
      await this.#removeDevice(() => true);
      return;
    }
    const { open, inherited } = this.#context;
    for (const { token } of this.queues) open.delete(token);
    inherited.giveBack(tapDescriptors([this]));
  }

  /** Closes the port because the device no longer works. The thread of the queue `token` has found that out
   * and has released it; the report is for all queues. */
  fail(token: Token, code: string): void {
    inBackground(
      `closing ${this.name}`,
      this.#close((each) => each === token),
    );
    this.#opened.owner.listener?.portFault(this, code);
  }

  /** Closes the port and removes its device, even one that was to outlive this varpd. */
  async #removeDevice(hasLetGo?: (token: Token) => boolean): Promise<void> {
    const { inherited } = this.#context;
    const isOpen = this.closed === undefined;
    if (isOpen && inherited.persistTaps && !this.temporary) {
      this.#makePassing();
      inherited.links.forget(this.name);
    }
    await this.#close(hasLetGo);
    if (!isOpen) discardTap(this.name, inherited);
  }

  /** Closes each queue after its thread has released it. `hasLetGo`: whether a thread has done so already. */
  #close(hasLetGo: (token: Token) => boolean = () => false): Promise<unknown> {
    const { threads, open, inherited } = this.#context;
    this.closed ??= Promise.all(
      this.queues.map(async ({ token, fd }, queue) => {
        open.delete(token);
        if (!hasLetGo(token)) await threads[queue].request({ kind: 'remove-port', token });
        await closeTap(fd);
      }),
    ).then(() => inherited.forget(this.temporary ? [] : tapDescriptors([this]).map(({ name }) => name)));
    return this.closed;
  }
}
