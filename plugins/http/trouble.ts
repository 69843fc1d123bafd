/**
 * The troubles of a store, as sentences. They name the store and the kind of the trouble. They quote no body and no
 * header, since every user of dladm may read them, and not every user may read the store.
 */

/** Codes of Node for a certificate that is not accepted, and the words for each kind. */
const CERTIFICATE = /CERT|UNABLE_TO_|HOSTNAME_MISMATCH|_CRL/;
const NO_TLS = /^(?:EPROTO|ERR_SSL_)/;
const NO_HTTP = /^HPE_/;
/** A token that is echoed in an error code would be a surprise; a code has only these characters. */
const CODE = /^[A-Z][A-Z0-9_]{2,60}$/;

export class StoreTrouble extends Error {
  override readonly name = 'StoreTrouble';

  constructor(
    message: string,
    /** The store may answer later: asking again too often makes it worse. */
    readonly isOutage: boolean,
    /** The pause that the store asks for (RFC 9110 10.2.3), in ms; 0 without one. */
    readonly retryAfterMs = 0,
    /** The store does not accept the token or the certificate of this host. */
    readonly isDenied = false,
  ) {
    super(message);
  }

  /** The name of an errno, for the status words of dladm. */
  get code(): string {
    return this.isOutage ? 'EAGAIN' : 'EINVAL';
  }
}

/** Makes the trouble out of an error of node:http, node:https or node:tls. `store` is the origin of the URL. */
export function connectionTrouble(store: string, error: unknown): StoreTrouble {
  if (error instanceof StoreTrouble) return error;
  const given = (error as { code?: unknown } | null)?.code;
  const code = typeof given === 'string' && CODE.test(given) ? given : 'no code';
  if (code === 'HPE_HEADER_OVERFLOW') return new StoreTrouble(`${store} sends too large a header`, false);
  if (NO_HTTP.test(code)) return new StoreTrouble(`${store} does not speak HTTP (${code})`, false);
  if (NO_TLS.test(code))
    return new StoreTrouble(`${store} does not speak TLS as varpd does (${code})`, false);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return new StoreTrouble(`the certificate of ${store} is for another name (${code})`, false);
  if (CERTIFICATE.test(code)) {
    const advice = code === 'CERT_HAS_EXPIRED' ? 'it has expired' : 'http/ca names the authority to trust';
    return new StoreTrouble(`the certificate of ${store} is not accepted (${code}): ${advice}`, false);
  }
  if (code === 'ECONNRESET')
    return new StoreTrouble(`${store} has ended the connection before its answer was whole`, true);
  return new StoreTrouble(`${store} cannot be reached (${code})`, true);
}

export const lateTrouble = (store: string, afterMs: number): StoreTrouble =>
  new StoreTrouble(`${store} has not answered within ${afterMs} ms`, true);

/** Makes the trouble out of a status that the interface does not have for this request. */
export function statusTrouble(
  store: string,
  path: string,
  status: number,
  { hasToken, retryAfterMs }: { readonly hasToken: boolean; readonly retryAfterMs: number },
): StoreTrouble {
  const answered = `${store} has answered ${status} to GET ${path}`;
  if (status === 401 || status === 403)
    return new StoreTrouble(
      `${answered}: ${hasToken ? 'the token in the secret http/token is not accepted' : 'http/token names the secret with the token'}`,
      false,
      0,
      true,
    );
  if (status >= 300 && status < 400)
    return new StoreTrouble(
      `${answered}, a redirect: varpd follows none; http/url must have the final address`,
      false,
    );
  if (status === 404 || status === 410)
    return new StoreTrouble(`${answered} without a code of the interface: is http/url right?`, false);
  return new StoreTrouble(answered, status === 429 || status >= 500, retryAfterMs);
}
