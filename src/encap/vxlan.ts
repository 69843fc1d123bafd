/** VXLAN, RFC 7348: a header of eight bytes, always. */
import * as vxlan from '../wire/vxlan.js';
import type { Encapsulation } from './contract.js';

export const VXLAN: Encapsulation = {
  name: 'vxlan',
  title: 'VXLAN',
  defaultPort: vxlan.PORT,
  maxId: vxlan.VNI_MAX,
  headerBytes: vxlan.HEADER_BYTES,
  // RFC 7348 5: the I flag alone.
  rule: {
    baseBytes: vxlan.HEADER_BYTES,
    lengthMask: 0,
    unitBytes: 0,
    plainMask: 0xffff_ffff,
    plain: 0x0800_0000,
  },
  writeHeader: vxlan.writeHeader,
  check: vxlan.check,
  id: vxlan.vni,
  hasReservedBits: vxlan.hasReservedBits,
};
