/**
 * The tunnel port, by which superframes leave as tunnel frames (dgram-extra/tunnel-port.ts). One serves all overlays with
 * the offload `tunnel`; it is there as long as there is one.
 *
 * A tunnel frame goes round IPsec, so it would leave in plain text. While any IPsec policy is for outgoing packets, the
 * tunnel port is down: then the kernel takes no frame, and superframes leave as trains.
 */
import {
  closeDescriptor,
  closeTap,
  hasOutgoingPolicy,
  NativeError,
  openTunnelPort,
  PolicyEvents,
  setLink,
  type TunnelPort,
} from '../../../dgram-extra/index.js';
import type { OverlayConfig } from '../../contract.js';
import { InheritedProgram } from './inherited-program.js';
import type { OverlaySockets } from './underlay.js';

/** The program at its ingress. */
export const redirection = new InheritedProgram('ingress', async () =>
  (await import('./tunnel-program.js')).tunnelProgram(),
);

/** Gives an overlay with the offload `tunnel` the tunnel port too. */
export function withTunnelPort(
  sockets: OverlaySockets,
  { offload }: Pick<OverlayConfig, 'offload'>,
  port: SharedTunnelPort,
): OverlaySockets {
  const tunnelFd = offload.includes('tunnel') ? port.acquire() : undefined;
  if (tunnelFd === undefined) return sockets;
  return {
    ...sockets,
    senders: { ...sockets.senders, tunnelFd },
    release: async (isKept) => {
      await Promise.all([sockets.release(isKept), port.release()]);
    },
  };
}

interface OpenPort extends TunnelPort {
  /** Undefined: the kernel has no IPsec. */
  readonly policies: PolicyEvents | undefined;
}

export class SharedTunnelPort {
  #port: OpenPort | undefined;
  #references = 0;

  /** Returns the descriptor of the tunnel port, held until `release`. Undefined if this kernel or the rights of varpd do
   * not permit one; then there is nothing to release. */
  acquire(): number | undefined {
    try {
      this.#port ??= open();
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
    }
    if (this.#port !== undefined) this.#references++;
    return this.#port?.fd;
  }

  /** No thread uses the descriptor for this owner any more. */
  async release(): Promise<void> {
    const port = this.#port;
    if (--this.#references > 0 || port === undefined) return;
    this.#port = undefined;
    port.policies?.close();
    await closeTap(port.fd);
  }
}

function open(): OpenPort | undefined {
  if (redirection.fd === undefined) return undefined;
  const port = openTunnelPort(redirection.fd);
  const follow = (): void => {
    try {
      setLink(port.name, { up: !hasOutgoingPolicy() });
    } catch (error) {
      // The device is gone, or has another name: then the kernel takes no frame, or the state stays.
      if (!(error instanceof NativeError)) throw error;
    }
  };
  try {
    // Listens before it looks, so that a change between the two is noticed.
    const policies = watchPolicies(follow);
    follow();
    return { ...port, policies };
  } catch (error) {
    closeDescriptor(port.fd);
    throw error;
  }
}

function watchPolicies(changed: () => void): PolicyEvents | undefined {
  try {
    return new PolicyEvents(changed);
  } catch (error) {
    if (error instanceof NativeError && error.code === 'EPROTONOSUPPORT') return undefined;
    throw error;
  }
}
