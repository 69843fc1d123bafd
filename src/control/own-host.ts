/** Whether a request over HTTP names this host. */
import { parse as parseIp } from '../wire/ip.js';

/**
 * Whether a page of another site cannot have made a browser send this request. Such a page lets its own name
 * resolve to this host (DNS rebinding). A request to an address involves no name; `localhost` and the
 * configured names belong to no other site.
 */
export function isOwnHost(host: string | undefined, names: readonly string[]): boolean {
  if (host === undefined) return true; // HTTP/1.0: no browser
  const found = /^(?:\[(?<address>[^\]]*)\]|(?<name>[^:]*))(?::\d*)?$/.exec(host)?.groups;
  const name = (found?.['address'] ?? found?.['name'] ?? '').toLowerCase().replace(/\.$/, '');
  return parseIp(name) !== undefined || ['localhost', ...names].some((own) => own.toLowerCase() === name);
}
