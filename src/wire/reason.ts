// Why a `check` refused. One closed list for all protocols, so that a caller can count by number without
// asking which protocol spoke. Always negative; what `check` returns for good bytes is always positive (see
// ethernet.ts).

/** Fewer bytes than the fixed header needs. */
export const TRUNCATED = -1;
/** The version nibble is not the one this protocol has. */
export const BAD_VERSION = -2;
/** A header says of itself that it is shorter than its fixed part, or longer than what holds it. */
export const BAD_HEADER_LENGTH = -3;
/** A length field reaches past the frame, or does not cover its own header. */
export const BAD_LENGTH = -4;
/** An option of length zero, or one that reaches past the options. */
export const BAD_OPTION = -5;
/** A field has a value the standard forbids, or one of another protocol than ours (ARP for Token Ring). */
export const BAD_VALUE = -6;
/** More VLAN tags or extension headers than anyone has a use for. */
export const TOO_DEEP = -7;
/** VXLAN without the I flag: there is no network the frame belongs to. */
export const NO_VNI = -8;
/** A control packet of the tunnel itself: there is no frame in it. */
export const CONTROL = -9;
/** An option that must not be passed over, and that nobody here knows. */
export const CRITICAL = -10;

const NAMES = [
  'truncated',
  'bad version',
  'bad header length',
  'bad length',
  'bad option',
  'bad value',
  'too many headers',
  'no VNI',
  'control packet',
  'critical option',
] as const;

/** For logs and `describe`. */
export function reasonName(reason: number): string {
  return NAMES[-1 - reason] ?? 'malformed';
}
