/** Errors of overlays and VNICs, in words that name the property or the device. */
import { OverlayError } from '../../model/errors.js';
import { foundExpected } from '../../model/properties.js';
import { didYouMean } from '../../model/suggest.js';
import { notOfThisHost, oneOf, otherFamily } from '../../model/sentences.js';
import type { MacAddress } from '../../plugin/contract.js';
import { ownUserText } from '../../plugin/trusted-place.js';
import type { ErrnoName } from '../../wire/errno.js';
import { type Endpoint, family, parseEndpoint } from '../../wire/ip.js';
import { parseMac } from '../../wire/mac.js';
import { errnoName, explain } from '../system-error.js';
import { portHolder } from '../underlay/port-holder.js';

/** Errors of read and write on a TAP without its device. */
const GONE: readonly ErrnoName[] = ['EBADFD', 'EBADF', 'ENODEV', 'ENXIO'];

const NO_DESCRIPTOR =
  "EMFILE: varpd may open no further file: raise its limit of open files (LimitNOFILE= of its unit, 'ulimit -n')";

/** Reason why a device does not work, from the errno name of its error. */
export function deviceFault(code: string): string {
  return GONE.some((errno) => errno === code) ? 'the device was removed' : `the device failed (${code})`;
}

export function needMac(text: string): MacAddress {
  const mac = parseMac(text);
  if (mac === undefined)
    throw new OverlayError(
      'INVALID',
      `invalid mac address: ${foundExpected(text, 'six groups of hexadecimal digits')}`,
    );
  return mac;
}

export function unknownKind(what: string, found: string, known: readonly string[]): OverlayError {
  const line = `no ${what} plugin: ${foundExpected(found, oneOf(known))}`;
  return new OverlayError('NOT_FOUND', line, [line], undefined, didYouMean(found, known));
}

export function bindError(error: unknown, encap: string, { ip, port }: Endpoint): OverlayError {
  const holder = errnoName(error) === 'EADDRINUSE' ? portHolder(port) : '';
  return explain(error, {
    EADDRNOTAVAIL: `${encap}/listen_ip: ${notOfThisHost(ip)}`,
    EADDRINUSE: `${encap}/listen_port: port ${port} of ${ip} is in use by ${holder}`,
    EMFILE: NO_DESCRIPTOR,
    EACCES: `${encap}/listen_port: varpd may not bind port ${port}: it needs CAP_NET_BIND_SERVICE`,
  });
}

export function tapError(error: unknown, name: string): OverlayError {
  const denied =
    `${name}: varpd may not make a TAP device: it needs CAP_NET_ADMIN and access to /dev/net/tun ` +
    `(in a container: --cap-add NET_ADMIN --device /dev/net/tun)`;
  const missing =
    `${name}: there is no /dev/net/tun: load the kernel module with 'modprobe tun'; ` +
    `a container must be given it, as with '--device /dev/net/tun'`;
  return explain(error, {
    EPERM: denied,
    EACCES:
      `${name}: varpd runs as user ${ownUserText()}, who may not open /dev/net/tun: 'chmod 666 /dev/net/tun' as root, ` +
      `permits it, as udev does by default; the links of varpd stay protected`,
    EMFILE: `${name}: ${NO_DESCRIPTOR}`,
    ENOENT: missing,
    ENODEV: missing,
    EBUSY: { code: 'EXISTS', line: `${name}: a link of this name exists already` },
    EUSERS:
      `${name}: another program attaches to the new TAP again and again before varpd can own it: find the program ` +
      `that has /dev/net/tun open, or use queues=1`,
  });
}

export function renameError(error: unknown, from: string, to: string): OverlayError {
  const elsewhere = `${from}: its interface is not in the network namespace of varpd: move it back first`;
  return explain(error, {
    EBUSY: {
      code: 'BUSY',
      line: `${from}: its interface is up, and a kernel before Linux 6.2 renames none that is: 'ip link set ${from} down' first`,
    },
    EEXIST: { code: 'EXISTS', line: `${to}: a link of this name exists already` },
    ENODEV: { code: 'INVALID', line: elsewhere },
  });
}

export function changeError(error: unknown, vnic: string): OverlayError {
  const elsewhere = `${vnic}: its interface is not in the network namespace of varpd, so its MAC is not changed: move it back first`;
  return explain(error, { ENODEV: { code: 'INVALID', line: elsewhere } });
}

/**
 * The destination of a target that is set by hand. The overlay's own listen endpoint says that the MAC is at
 * this host. Throws an OverlayError when the destination cannot be sent to from there.
 */
export function needDestination(text: string, { listen }: { listen: Endpoint }): Endpoint {
  const to = parseEndpoint(text);
  if (to === undefined)
    throw new OverlayError('INVALID', foundExpected(text, 'drop, 192.0.2.1:4789 or [2001:db8::1]:4789'));
  if (family(to.ip) !== family(listen.ip)) throw new OverlayError('INVALID', otherFamily(text, listen.ip));
  return to;
}
