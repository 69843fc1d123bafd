// Reasons of a `check` to refuse. There is one closed list for all protocols, so that a caller can count by
// number, whatever the protocol. A reason is always negative; the result of `check` for valid bytes is always
// positive (see ethernet.ts).

/** Fewer bytes than the fixed header needs. */
export const TRUNCATED = -1;
/** The version nibble is not the one this protocol has. */
export const BAD_VERSION = -2;
/** A header states a length that is shorter than its fixed part, or longer than the bytes around it. */
export const BAD_HEADER_LENGTH = -3;
/** A length field reaches past the frame, or does not cover its own header. */
export const BAD_LENGTH = -4;
/** An option of length zero, or one that reaches past the options. */
export const BAD_OPTION = -5;
/** A field has a value that the standard forbids, or that is for another protocol (ARP for Token Ring). */
export const BAD_VALUE = -6;
/** More VLAN tags or extension headers than any network uses. */
export const TOO_DEEP = -7;
/** VXLAN without the I flag: the frame belongs to no network. */
export const NO_VNI = -8;
/** A control packet of the tunnel itself, without a frame. */
export const CONTROL = -9;
/** An option that a receiver must not ignore, and that varpd does not know. */
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
