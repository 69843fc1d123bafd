/** Which requests the live page answers: those for this host, of its own page, by clients that have the token. */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isOwnHost } from '../control/own-host.js';

export const COOKIE = 'varpd_token';
/** A page of this host at another port has the same cookies; it is of another origin all the same. */
const OWN_SITES = ['same-origin', 'none'];

export interface Refusal {
  readonly status: number;
  readonly why: string;
}

export interface GuardOptions {
  readonly hosts: readonly string[];
  readonly token: string | undefined;
  /** No browser reaches a Unix socket by itself, and a tunnel to one may have any name. */
  readonly isUnix: boolean;
}

/** Undefined = it may be answered. */
export function refusal(
  request: IncomingMessage,
  { hosts, token, isUnix }: GuardOptions,
): Refusal | undefined {
  const { host: names = [], origin: origins = [], 'sec-fetch-site': sites = [] } = request.headersDistinct;
  if (names.length > 1 || (!isUnix && !isOwnHost(names.at(0), hosts)))
    return {
      status: 421,
      why: 'this host is not known by that name: use its address, or add the name to metricsHosts of the configuration',
    };
  const isForeign = origins.some((origin) => origin !== `http://${names.at(0)}`);
  // A link of another site may lead to the page itself, which nothing comes back from.
  const isLink = request.method === 'GET' && pathOf(request) === '/';
  if (isForeign || (!isLink && sites.some((site) => !OWN_SITES.includes(site))))
    return { status: 403, why: 'a page of another site may not ask this' };
  if (token !== undefined && !tokensOf(request).some((given) => isSame(given, token)))
    return { status: 401, why: 'open /?token=TOKEN first: webToken of the configuration names the secret' };
  return undefined;
}

export function pathOf({ url = '' }: IncomingMessage): string {
  return url.split('?', 1)[0];
}

export function queryOf({ url = '' }: IncomingMessage): URLSearchParams {
  return new URLSearchParams(url.split('?').slice(1).join('?'));
}

/** In a cookie, in a header, or in the address of the page. */
function tokensOf(request: IncomingMessage): string[] {
  const cookies = (request.headers.cookie ?? '').split(/; */).map((cookie) => cookie.split('=', 2));
  const bearer = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const given = [
    ...cookies.filter(([name]) => name === COOKIE).map(([, value]) => decoded(value)),
    bearer,
    pathOf(request) === '/' ? queryOf(request).get('token') : null,
  ];
  return given.filter((one) => typeof one === 'string');
}

function decoded(text: string | undefined): string | undefined {
  try {
    return text === undefined ? undefined : decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

/** In the same time, however much of it is right. */
function isSame(given: string, token: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(token));
}
